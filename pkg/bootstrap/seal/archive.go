package seal

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"slices"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// Archive is what one kind of machine is given.
type Archive struct {
	Cluster string
	Role    string
	Files   []File
}

// File is one file of a machine.
type File struct {
	Path         string      // absolute and clean, see content.CheckPath
	Mode         fs.FileMode // at most 0644
	Owner, Group string      // by name: their numbers are the machine's own affair
	Body         []byte
}

// document is an archive as it is encrypted.
type document struct {
	strict.Header
	Cluster string  `json:"cluster"`
	Role    string  `json:"role"`
	Files   []entry `json:"files"` // ascending by path
}

type entry struct {
	Path   string `json:"path"`
	Mode   string `json:"mode"` // "0600"
	Owner  string `json:"owner"`
	Group  string `json:"group"`
	SHA256 string `json:"sha256"`
	Body   []byte `json:"body"` // in base64
}

const kind = "SealedSecrets"

// encode returns the same bytes for the same files, in whatever order they are.
func (a *Archive) encode() ([]byte, error) {
	d := document{Header: strict.Header{APIVersion: strict.APIVersion, Kind: kind}, Cluster: a.Cluster, Role: a.Role}
	for _, f := range slices.SortedFunc(slices.Values(a.Files), func(x, y File) int { return cmp.Compare(x.Path, y.Path) }) {
		d.Files = append(d.Files, entry{
			Path: f.Path, Mode: fmt.Sprintf("%04o", f.Mode), Owner: f.Owner, Group: f.Group, SHA256: digest(f.Body), Body: f.Body,
		})
	}
	if _, err := d.archive(); err != nil {
		return nil, err
	}
	return json.Marshal(d)
}

func digest(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// decode reads what [Archive.encode] has made, and nothing else.
func decode(text []byte) (*Archive, error) {
	var d document
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return nil, &ContentError{errors.New("list is not understood")} // the cause could repeat what is in it
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, &ContentError{errors.New("more after the list")}
	}
	if d.APIVersion != strict.APIVersion || d.Kind != kind {
		return nil, &ContentError{fmt.Errorf("got %.40q %.40q, want %s %s", d.APIVersion, d.Kind, strict.APIVersion, kind)}
	}
	a, err := d.archive()
	if err != nil {
		return nil, &ContentError{err}
	}
	return a, nil
}

// nameForm is a name of a user or group that no tool takes for an option or a number.
var nameForm = regexp.MustCompile(`\A[a-z_][a-z0-9_-]{0,31}\z`)

// archive checks the list and returns what it says.
func (d document) archive() (*Archive, error) {
	if len(d.Files) == 0 {
		return nil, errors.New("no file in it")
	}
	a := &Archive{Cluster: d.Cluster, Role: d.Role}
	paths := make(content.Paths)
	for i, e := range d.Files {
		if err := content.CheckPath(e.Path); err != nil {
			return nil, err
		}
		if err := paths.Add(e.Path); err != nil {
			return nil, err
		}
		if i > 0 && e.Path < d.Files[i-1].Path {
			return nil, fmt.Errorf("path %q: not in order", e.Path)
		}
		f, err := e.file()
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.Path, err)
		}
		a.Files = append(a.Files, f)
	}
	return a, nil
}

func (e entry) file() (File, error) {
	var mode fs.FileMode
	if n, err := fmt.Sscanf(e.Mode, "%o", &mode); n != 1 || err != nil || fmt.Sprintf("%04o", mode) != e.Mode || mode&^0o644 != 0 {
		return File{}, fmt.Errorf("mode: got %.10q, want 0644 or less", e.Mode)
	}
	for _, name := range []string{e.Owner, e.Group} {
		if !nameForm.MatchString(name) {
			return File{}, fmt.Errorf("owner: got %.40q, want the name of a user or group", name)
		}
	}
	if got := digest(e.Body); got != e.SHA256 {
		return File{}, fmt.Errorf("sha256: got %s, want %.64q", got, e.SHA256)
	}
	return File{Path: e.Path, Mode: mode, Owner: e.Owner, Group: e.Group, Body: e.Body}, nil
}
