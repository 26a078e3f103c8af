package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/verify"
)

// nodeSeenFile is where a machine keeps what it has seen, below its root.
const nodeSeenFile = "var/lib/imgctl/seen.json"

// seenReleases is what a machine has seen of releases, by repository: nothing goes
// back behind it. The zero value, and a file that is not there, have seen nothing.
type seenReleases struct {
	strict.Header `yaml:",inline"`
	Repositories  map[string]seenRepository `yaml:"repositories" json:"repositories"`
}

type seenRepository struct {
	Statement int64 `yaml:"statement" json:"statement"`           // the highest sequence of a release statement
	Installed int64 `yaml:"installed" json:"installed,omitempty"` // sequence of the release that was installed last
}

func loadSeen(path string) (*seenReleases, error) {
	s := &seenReleases{Repositories: map[string]seenRepository{}}
	err := strict.DecodeFile(path, "SeenReleases", s)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return s, nil
	case err != nil:
		return nil, hint(usage(fmt.Errorf("read what was seen of releases: %w", err)), "if the file is damaged, move it away: the next release statement that counts is then the first")
	}
	return s, nil
}

// loadSeen reads the file of --seen, and tells the verifier.
func (c *verifyCmd) loadSeen() (*seenReleases, error) {
	if c.seen == "" {
		return nil, nil
	}
	s, err := loadSeen(c.seen)
	if err == nil {
		c.accept.seen = s.statements()
	}
	return s, err
}

// keepSeen writes the file of --seen.
func (c *verifyCmd) keepSeen(s *seenReleases, found []*verify.Inspection) error {
	if s == nil {
		return nil
	}
	for _, in := range found {
		s.note(in.Verified, false)
	}
	return s.save(c.seen)
}

// statements is what a verifier is told.
func (s *seenReleases) statements() map[string]int64 {
	m := make(map[string]int64, len(s.Repositories))
	for name, r := range s.Repositories {
		m[name] = r.Statement
	}
	return m
}

// mayInstall refuses what is of an earlier release than what was installed.
func (s *seenReleases) mayInstall(v *verify.Verified, rollback bool) error {
	r := v.Report().Release
	if r == nil || rollback {
		return nil
	}
	if was := s.Repositories[v.Repository()].Installed; r.Since < was {
		return hint(&verify.Refusal{
			Subject: verify.Subject{Repository: v.Repository(), Digest: v.Digest()}, Rule: v.Report().Rule, Reason: verify.RolledBack,
			Err: fmt.Errorf("it is of release %d, and this machine has installed release %d", r.Since, was),
		}, "if that is what you want: imgctl rollback, or --allow-rollback")
	}
	return nil
}

// note takes over what was seen with verified content.
func (s *seenReleases) note(v *verify.Verified, installed bool) {
	if v == nil || v.Report().Release == nil {
		return
	}
	r, now := s.Repositories[v.Repository()], v.Report().Release
	r.Statement = max(r.Statement, now.Sequence)
	if installed {
		r.Installed = now.Since
	}
	s.Repositories[v.Repository()] = r
}

// save writes the file, unless nothing was seen.
func (s *seenReleases) save(path string) error {
	if len(s.Repositories) == 0 {
		return nil
	}
	s.Header = header("SeenReleases")
	var b bytes.Buffer
	if err := printJSON(&b, s); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("write what was seen of releases: %w", err)
	}
	return atomicfile.WriteBytes(path, 0o644, b.Bytes())
}
