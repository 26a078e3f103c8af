package bootstrap

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// TokenOptions are what is asked of a new token.
type TokenOptions struct {
	TTL         time.Duration
	Description string
	Groups      []string // besides system:bootstrappers
}

// Check reports what no token can have.
func (o TokenOptions) Check() error {
	for _, g := range o.Groups {
		if err := checkGroup(g); err != nil {
			return fmt.Errorf("group: %w", err)
		}
	}
	if err := checkDescription(o.Description); err != nil {
		return fmt.Errorf("description: %w", err)
	}
	if o.TTL < time.Second {
		return fmt.Errorf("lifetime of the token: got %s, want 1s or more", o.TTL)
	}
	return nil
}

// newGrant makes a token that ends after the options' time.
func newGrant(o TokenOptions, now time.Time) (Grant, error) {
	if err := o.Check(); err != nil {
		return Grant{}, err
	}
	return Grant{Token: NewToken(), Expires: now.Add(o.TTL).UTC().Truncate(time.Second), Description: o.Description, Groups: o.Groups}, nil
}

// TokenResult is what was done about a token.
type TokenResult struct {
	ID      string    `json:"id"`
	Expires time.Time `json:"expires"`
	Steps   []Step    `json:"steps"`
}

// CreateToken adds a token to a directory that [Init] filled: its Secret, a
// bootstrap kubeconfig of its own, and its signature in cluster-info.
func CreateToken(ctx context.Context, path string, o TokenOptions, now time.Time) (*TokenResult, error) {
	return addToken(ctx, path, o, now, false)
}

// RotateToken makes the token that machines join with from now on. Tokens
// before it stay valid until they expire, and sign cluster-info as long; those
// that have expired are removed.
func RotateToken(ctx context.Context, path string, o TokenOptions, now time.Time) (*TokenResult, error) {
	return addToken(ctx, path, o, now, true)
}

func addToken(ctx context.Context, path string, o TokenOptions, now time.Time, rotate bool) (*TokenResult, error) {
	if _, err := os.Stat(filepath.Join(path, clusterInfoFile)); err != nil {
		return nil, err
	}
	d, err := openDir(ctx, path, now)
	if err != nil {
		return nil, err
	}
	defer d.close()
	w, err := d.where()
	if err != nil {
		return nil, err
	}
	g, err := newGrant(o, d.now)
	if err != nil {
		return nil, err
	}
	config := filepath.Join(tokensDir, g.Token.ID()+".conf")
	if rotate {
		config = bootstrapConfig
	}
	if err := d.addGrant(w, g, config); err != nil {
		return nil, err
	}
	if rotate {
		if err := d.removeExpired(); err != nil {
			return nil, err
		}
	}
	return &TokenResult{ID: g.Token.ID(), Expires: g.Expires, Steps: d.steps}, nil
}

// where reads back what [Init] has written about the cluster.
func (d *dir) where() (where, error) {
	body, err := d.read(clusterInfoFile, publicMode)
	if err != nil {
		return where{}, err
	}
	info, err := ParseClusterInfo(body)
	if err != nil {
		return where{}, &Differs{Path: clusterInfoFile, Why: err}
	}
	w, _, err := info.where()
	if err != nil {
		return where{}, &Differs{Path: clusterInfoFile, Why: err}
	}
	body, err = d.read(bootstrapConfig, secretMode)
	if err != nil {
		return where{}, err
	}
	named, _, err := parseConfig(body, 1)
	if err != nil {
		return where{}, &Differs{Path: bootstrapConfig, Why: err}
	}
	w.name = named.name
	return w, nil
}

// firstToken keeps the tokens that are there, or makes one when none is valid.
func (in *initialize) firstToken(w where) error {
	grants, _, err := in.grants()
	if err != nil {
		return err
	}
	if len(grants) > 0 {
		for _, g := range grants {
			in.did(Step{Path: grantFile(g.Token.ID()), Outcome: Kept, Expires: &g.Expires})
		}
		if err := in.keepBootstrap(w, grants); err != nil {
			return err
		}
		return in.publish(w, grants)
	}
	o := TokenOptions{TTL: in.cluster.Lifetimes.Token, Description: in.cluster.BootstrapToken.Description, Groups: in.cluster.BootstrapToken.Groups}
	g, err := newGrant(o, in.now)
	if err != nil {
		return err
	}
	return in.addGrant(w, g, bootstrapConfig)
}

// keepBootstrap leaves the bootstrap kubeconfig when its token is one of the
// valid ones, and else writes it with the one that lasts longest.
func (d *dir) keepBootstrap(w where, grants []Grant) error {
	body, err := d.read(bootstrapConfig, secretMode)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, g := range grants {
		if want, err := w.bootstrap(g.Token); err == nil && bytes.Equal(body, want) {
			d.did(Step{Path: bootstrapConfig, Outcome: Kept, Expires: &g.Expires})
			return nil
		}
	}
	body, err = w.bootstrap(grants[0].Token)
	if err != nil {
		return err
	}
	return d.put(bootstrapConfig, secretMode, body)
}

// addGrant writes a new token: first its Secret, from which the rest follows
// when this is cut off.
func (d *dir) addGrant(w where, g Grant, config string) error {
	manifest, err := g.Manifest()
	if err != nil {
		return err
	}
	file := grantFile(g.Token.ID())
	switch there, err := d.has(file); {
	case err != nil:
		return err
	case there:
		return &Differs{Path: file, Why: errors.New("is there already")}
	}
	if err := d.write(file, secretMode, manifest); err != nil {
		return err
	}
	d.did(Step{Path: file, Outcome: Created, Expires: &g.Expires})
	body, err := w.bootstrap(g.Token)
	if err != nil {
		return err
	}
	if err := d.put(config, secretMode, body); err != nil {
		return err
	}
	grants, _, err := d.grants()
	if err != nil {
		return err
	}
	return d.publish(w, grants)
}

// publish writes cluster-info, signed under the tokens. One that is there and is
// about another cluster is not replaced.
func (d *dir) publish(w where, grants []Grant) error {
	config, err := w.clusterOnly()
	if err != nil {
		return err
	}
	if body, err := d.read(clusterInfoFile, publicMode); err == nil {
		was, err := ParseClusterInfo(body)
		if err == nil && !bytes.Equal(was.Kubeconfig, config) {
			err = errors.New("is about another server or certificate authority")
		}
		if err != nil {
			return differs(clusterInfoFile, err, "")
		}
	}
	info := ClusterInfo{Kubeconfig: config}
	for _, g := range grants {
		info.Sign(g.Token)
	}
	manifest, err := info.Manifest()
	if err != nil {
		return err
	}
	return d.put(clusterInfoFile, publicMode, manifest)
}

// grants returns the tokens in the directory that are valid, the one that lasts
// longest first, and those that have expired.
func (d *dir) grants() (valid, expired []Grant, err error) {
	files, err := os.ReadDir(filepath.Join(d.path, tokensDir))
	if err != nil {
		return nil, nil, err
	}
	for _, f := range files {
		id, ok := strings.CutSuffix(f.Name(), ".yaml")
		if !ok || !tokenIDForm.MatchString(id) {
			continue
		}
		body, err := d.read(grantFile(id), secretMode)
		if err != nil {
			return nil, nil, err
		}
		g, err := ParseGrant(body)
		if err == nil && g.Token.ID() != id {
			err = errors.New("holds another token than its name says")
		}
		if err != nil {
			return nil, nil, differs(grantFile(id), err, "")
		}
		if g.Valid(d.now) == nil {
			valid = append(valid, g)
		} else {
			expired = append(expired, g)
		}
	}
	slices.SortFunc(valid, func(a, b Grant) int {
		return cmp.Or(b.Expires.Compare(a.Expires), cmp.Compare(a.Token.ID(), b.Token.ID()))
	})
	return valid, expired, nil
}

// removeExpired removes what no machine can join with any more.
func (d *dir) removeExpired() error {
	_, expired, err := d.grants()
	if err != nil {
		return err
	}
	for _, g := range expired {
		for _, file := range []string{filepath.Join(tokensDir, g.Token.ID()+".conf"), grantFile(g.Token.ID())} {
			switch there, err := d.has(file); {
			case err != nil:
				return err
			case !there:
				continue
			}
			if err := d.remove(file); err != nil {
				return err
			}
			d.did(Step{Path: file, Outcome: Removed})
		}
	}
	return nil
}

func grantFile(id string) string { return filepath.Join(tokensDir, id+".yaml") }
