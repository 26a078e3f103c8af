package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/pkg/bootstrap/seal"
	"github.com/imgctl/imgctl/pkg/bundle/owners"
)

// Role is a kind of machine, which is given secrets of its own.
type Role = owners.Role

// The roles. A machine may have several.
const (
	Controller = owners.Controller
	Worker     = owners.Worker
	EtcdMember = owners.EtcdMember
)

// Roles returns all roles.
func Roles() []Role { return owners.Roles() }

// RoleFiles returns what machines of the role are given of the directory at
// path, ready to be sealed: where each file goes, its owner and its mode, as the
// table of package owners says. Keys of authorities stay where they were made
// but one: the controller manager signs the certificates of kubelets.
func RoleFiles(ctx context.Context, path, cluster string, r Role, now time.Time) (*seal.Archive, error) {
	d, err := openDir(ctx, path, now)
	if err != nil {
		return nil, err
	}
	defer d.close()
	table, err := owners.New(nil) // only names are in an archive
	if err != nil {
		return nil, err
	}
	a := &seal.Archive{Cluster: cluster, Role: string(r)}
	for _, p := range table.Of(r) {
		switch {
		case p.Path == owners.TokenSecrets:
			err = d.giveTokens(a, p)
		case p.From != "":
			err = d.give(a, p.From, p.Path, p)
		}
		if err != nil {
			return nil, err
		}
	}
	return a, nil
}

// give adds the file from of the directory to the archive as the file to.
func (d *dir) give(a *seal.Archive, from, to string, p owners.Path) error {
	mode := publicMode
	if p.Secret() {
		mode = secretMode
	}
	body, err := d.read(from, mode)
	if errors.Is(err, fs.ErrNotExist) {
		return &Differs{Path: from, Why: fmt.Errorf("is not there, and a %s needs it", a.Role)}
	}
	if err != nil {
		return err
	}
	a.Files = append(a.Files, seal.File{Path: to, Mode: p.Mode, Owner: p.Owner, Group: p.Group, Body: body})
	return nil
}

// giveTokens adds every valid token.
func (d *dir) giveTokens(a *seal.Archive, p owners.Path) error {
	grants, _, err := d.grants()
	if err != nil {
		return err
	}
	for _, g := range grants {
		id := g.Token.ID()
		if err := d.give(a, grantFile(id), strings.Replace(p.Path, "*", id, 1), p); err != nil {
			return err
		}
	}
	return nil
}

// SealRoles encrypts what each role is given for its recipients, those of the
// cluster file and more, into sealed/ROLE.age of the directory at path. A role
// without a recipient is left out. What is sealed is always written anew: it
// cannot be compared with what is there, which only the recipients can open.
func SealRoles(ctx context.Context, path string, c *Cluster, more map[Role][]seal.Recipient, now time.Time) ([]Step, error) {
	var steps []Step
	for _, role := range Roles() {
		recipients, err := recipientsOf(c.Roles[string(role)], more[role])
		if err != nil {
			return steps, err
		}
		if len(recipients) == 0 {
			continue
		}
		archive, err := RoleFiles(ctx, path, c.Name, role, now)
		if err != nil {
			return steps, err
		}
		sealed, err := seal.Seal(archive, recipients)
		if err != nil {
			return steps, err
		}
		step, err := writeSealed(path, role, sealed)
		if err != nil {
			return steps, err
		}
		steps = append(steps, step)
	}
	return steps, nil
}

func recipientsOf(spec RoleSpec, more []seal.Recipient) ([]seal.Recipient, error) {
	var all []seal.Recipient
	for _, text := range spec.Recipients {
		r, err := seal.ParseRecipient(text)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return append(all, more...), nil
}

func writeSealed(path string, role Role, sealed []byte) (Step, error) {
	if err := privateDir(filepath.Join(path, sealedDir)); err != nil {
		return Step{}, err
	}
	step := Step{Path: filepath.Join(sealedDir, string(role)+".age"), Outcome: Created}
	file := filepath.Join(path, step.Path)
	if _, err := os.Lstat(file); err == nil {
		step.Outcome = Replaced
	}
	return step, atomicfile.WriteBytes(file, publicMode, sealed)
}
