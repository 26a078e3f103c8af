package verify

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/oci"
)

// Policy says who must have said what before something may be used. It is a
// list of rules of which the first that names the repository decides; where
// none does, the answer is no. The zero Policy has no rule and refuses all.
//
// A Policy does not change after it was loaded and is safe for concurrent use.
type Policy struct {
	rules []*Rule
}

// Rule is what one rule of a policy asks for.
type Rule struct {
	name         string // "rule 2 of policies/kubelet.yaml"
	repositories []pattern
	sources      []pattern
	threshold    int
	keys         []*trustedKey
	identities   []*trustedIdentity
	attestations []requirement
	format       string // of signatures: "bundle" or "legacy"; "" is either
	minVersion   string // that content must have; "" is any
	freshness    *freshness
}

// LoadPolicy reads the policy file at path and the key files that it names,
// which are relative to the policy's directory.
//
// It fails rather than guess: a mistake in the file is a [*strict.Error] with
// line and column, and a file that everybody may write is no policy at all.
func LoadPolicy(path string) (*Policy, error) {
	data, err := readProtected(path)
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	p, err := decodePolicy(path, data, func(file string) ([]byte, error) {
		if !filepath.IsAbs(file) {
			file = filepath.Join(filepath.Dir(path), file)
		}
		return readProtected(file)
	})
	if err != nil {
		return nil, fmt.Errorf("load policy: %w", err)
	}
	return p, nil
}

// KeyPolicy is the policy of somebody who trusts one public key: everything in
// the repositories, which may be patterns, must be signed with it. The key is
// PEM; name is what reports call it, e.g. its file. No repository is an error.
func KeyPolicy(name string, key []byte, repositories ...string) (*Policy, error) {
	k, err := parseKey(name, key)
	if err != nil {
		return nil, fmt.Errorf("key %s: %w", name, err)
	}
	if len(repositories) == 0 {
		return nil, fmt.Errorf("key %s: trusted for no repository", name)
	}
	r := &Rule{name: "--key " + name, threshold: 1, keys: []*trustedKey{k}}
	for _, repository := range repositories {
		p, err := parsePattern(repository, "")
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", name, err)
		}
		r.repositories = append(r.repositories, p)
	}
	return &Policy{rules: []*Rule{r}}, nil
}

// Rule returns the rule that decides about the repository. Spellings of one
// repository ("psdn/kubelet", "index.docker.io/psdn/kubelet") are the same.
func (p *Policy) Rule(repository string) (*Rule, bool) {
	name, err := canonicalRepository(repository, "")
	if err != nil || p == nil {
		return nil, false
	}
	for _, r := range p.rules {
		if _, ok := r.matches(name); ok {
			return r, true
		}
	}
	return nil, false
}

// matches returns the pattern of the rule that names the canonical repository.
func (r *Rule) matches(name string) (pattern, bool) {
	for _, p := range r.repositories {
		if _, ok := p.match(name); ok {
			return p, true
		}
	}
	return pattern{}, false
}

// String names the rule and the file it is in.
func (r *Rule) String() string { return r.name }

// Sources returns where content of the repository is to be looked for, in
// order: the rule's own list, or the repository itself where it has none.
func (r *Rule) Sources(repository string) []string {
	name, err := canonicalRepository(repository, "")
	if err != nil {
		return nil
	}
	if len(r.sources) == 0 {
		return []string{name}
	}
	last := name[strings.LastIndexByte(name, '/')+1:]
	sources := make([]string, len(r.sources))
	for i, s := range r.sources {
		sources[i] = s.fill(last)
	}
	return sources
}

// pattern is a repository, or all that lie directly below a path.
type pattern struct {
	name string // canonical, without the "/*"
	wild bool
}

// parsePattern parses "quay.io/poseidon/kubelet" or "quay.io/poseidon/*". The
// star stands for exactly one path component, the last: one that stood for
// several, or for a part, would grant what nobody meant. Directories ("oci:DIR")
// are relative to dir.
func parsePattern(s, dir string) (pattern, error) {
	const sample = "x" // any component: only the canonical form of the rest is wanted
	path, wild := strings.CutSuffix(s, "/*")
	if strings.Contains(path, "*") {
		return pattern{}, fmt.Errorf("repository %q: a * may only be the whole last component", s)
	}
	if wild {
		path += "/" + sample
	}
	name, err := canonicalRepository(path, dir)
	if err != nil {
		return pattern{}, err
	}
	if wild {
		name = strings.TrimSuffix(name, "/"+sample)
	}
	return pattern{name: name, wild: wild}, nil
}

// match reports whether the canonical repository is meant, and for what the star stood.
func (p pattern) match(repository string) (star string, ok bool) {
	if !p.wild {
		return "", repository == p.name
	}
	star, ok = strings.CutPrefix(repository, p.name+"/")
	return star, ok && star != "" && !strings.Contains(star, "/")
}

// covers reports whether everything that q matches is matched by p.
func (p pattern) covers(q pattern) bool {
	if p == q {
		return true
	}
	_, ok := p.match(q.name)
	return ok && !q.wild
}

// fill puts a component in the place of the star.
func (p pattern) fill(component string) string {
	if !p.wild {
		return p.name
	}
	return p.name + "/" + component
}

func (p pattern) String() string {
	if p.wild {
		return p.name + "/*"
	}
	return p.name
}

// canonicalRepository returns the one name of a repository. A directory
// becomes absolute, since it would else depend on where the program runs;
// a relative one is below dir, or the working directory where dir is empty.
func canonicalRepository(s, dir string) (string, error) {
	ref, err := oci.ParseReference(s)
	switch {
	case err != nil:
		return "", err
	case ref.Tag != "" || ref.Digest.Hex != "":
		return "", fmt.Errorf("repository %q: want a name without tag and digest", s)
	}
	path, isDir := strings.CutPrefix(ref.Repository, "oci:")
	if !isDir {
		return ref.Repository, nil
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", err
	}
	return "oci:" + path, nil
}

// readProtected reads a file that decides about trust. One that every user of
// the machine can write decides nothing.
func readProtected(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Mode().Perm()&0o002 != 0 {
		return nil, fmt.Errorf("%s: mode is %04o: everybody may write it (chmod o-w)", path, info.Mode().Perm())
	}
	data, err := io.ReadAll(io.LimitReader(f, strict.MaxSize+1))
	if err != nil {
		return nil, err
	}
	if len(data) > strict.MaxSize {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, strict.MaxSize)
	}
	return data, nil
}
