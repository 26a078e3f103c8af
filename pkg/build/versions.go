package build

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/parser"
	"golang.org/x/mod/semver"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/strict"
)

// answer is what an entry of a spec's versions would be if it were written now.
type answer struct {
	asked   string // the entry: a channel as it is, a version as the newest patch of its minor release
	version string // what that means
	err     error  // why nobody said so; then version is that of the entry, if it has one
}

// newest asks for every version of s. Of several versions of one minor release
// only the highest moves, and none that a channel has overtaken.
func (k *Locker) newest(ctx context.Context, s *Spec) []answer {
	answers := make([]answer, len(s.Upstream.Versions))
	var g errgroup.Group
	for i, v := range s.Upstream.Versions {
		channel := v
		if isVersion(v) {
			channel = "stable-" + strings.TrimPrefix(semver.MajorMinor(v), "v")
		}
		g.Go(func() error {
			a := answer{asked: v}
			if a.version, a.err = k.Upstream.Resolve(ctx, channel); a.err != nil && channel != v {
				a.err = fmt.Errorf("%s: %w", v, a.err)
			}
			answers[i] = a
			return nil
		})
	}
	g.Wait() // what went wrong is in the answers
	for i, a := range slices.Clone(answers) {
		switch {
		case !isVersion(a.asked):
		case a.err != nil, semver.Compare(a.version, a.asked) <= 0, overtaken(answers, a.asked):
			answers[i].version = a.asked
		default:
			answers[i].asked = a.version
		}
	}
	return answers
}

// overtaken reports whether another entry is a higher version of the minor release of v.
func overtaken(answers []answer, v string) bool {
	return slices.ContainsFunc(answers, func(a answer) bool {
		other := a.asked
		if !isVersion(other) {
			other = a.version // a channel
		}
		return semver.MajorMinor(other) == semver.MajorMinor(v) && semver.Compare(other, v) > 0
	})
}

// withVersions returns s as it is with other versions.
func (s *Spec) withVersions(versions []string) *Spec {
	next := *s
	next.Upstream.Versions = versions
	return &next
}

// SaveVersions writes the versions that s names into the file that it was read
// from, in the place of those that stand there. Every other byte stays as it is,
// comments too. The file is replaced whole or not at all, and not when somebody
// has changed it since.
func (s *Spec) SaveVersions() error {
	path := filepath.Join(s.dir, SpecFile)
	data, err := readBeside(s.dir, SpecFile, strict.MaxSize)
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != s.sum {
		return fmt.Errorf("write %s: it was changed meanwhile", path)
	}
	edited, err := replaceVersions(path, data, s.Upstream.Versions)
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if bytes.Equal(edited, data) {
		return nil
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := atomicfile.WriteBytes(path, info.Mode().Perm(), edited); err != nil {
		return err
	}
	sum := sha256.Sum256(edited)
	s.sum = hex.EncodeToString(sum[:])
	return nil
}

// replaceVersions returns the spec in data with the versions at upstream.versions.
func replaceVersions(name string, data []byte, versions []string) ([]byte, error) {
	var before Spec
	if err := strict.Decode(name, data, "Image", &before); err != nil {
		return nil, err
	}
	edited := data
	for i, v := range versions {
		if i >= len(before.Upstream.Versions) {
			return nil, fmt.Errorf("upstream.versions: got %d, want %d", len(before.Upstream.Versions), len(versions))
		}
		var err error
		if edited, err = replaceVersion(edited, i, before.Upstream.Versions[i], v); err != nil {
			return nil, fmt.Errorf("upstream.versions[%d]: %w: write %s there yourself", i, err, v)
		}
	}
	var after Spec
	if err := strict.Decode(name, edited, "Image", &after); err != nil {
		return nil, err
	}
	if !slices.Equal(after.Upstream.Versions, versions) {
		return nil, fmt.Errorf("upstream.versions: got %v after the change, want %v", after.Upstream.Versions, versions)
	}
	return edited, nil
}

// replaceVersion replaces one version where it stands.
func replaceVersion(data []byte, i int, old, new string) ([]byte, error) {
	if old == new {
		return data, nil
	}
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return nil, err
	}
	at, err := yaml.PathString(fmt.Sprintf("$.upstream.versions[%d]", i))
	if err != nil {
		return nil, err
	}
	node, err := at.FilterFile(file)
	if err != nil {
		return nil, err
	}
	position := node.GetToken().Position
	lines := bytes.SplitAfter(data, []byte("\n"))
	if position.Line < 1 || position.Line > len(lines) {
		return nil, errors.New("not found in the text")
	}
	line := []rune(string(lines[position.Line-1]))
	if position.Column < 1 || position.Column > len(line) {
		return nil, errors.New("not found in the text")
	}
	head, tail := string(line[:position.Column-1]), string(line[position.Column-1:])
	quote := tail[:len(tail)-len(strings.TrimLeft(tail, `"'`))]
	rest, ok := strings.CutPrefix(tail[len(quote):], old)
	if !ok || len(quote) > 1 {
		return nil, fmt.Errorf("got %.20q in the text, want %s", tail, old)
	}
	lines[position.Line-1] = []byte(head + quote + new + rest)
	return bytes.Join(lines, nil), nil
}
