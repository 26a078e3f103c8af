package node

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// Names below the root.
const (
	storeDir       = "var/lib/imgctl"
	lockFile       = storeDir + "/lock"
	currentLink    = storeDir + "/current"
	newCurrent     = storeDir + "/current.new"
	generationsDir = storeDir + "/generations"
	recordName     = "generation.json"
	treeName       = "tree"
)

// maxRecord bounds a generation.json: a full list of files, and room to spare.
const maxRecord = 4 * content.MaxSize

// state is the store as it was read: under the lock it stays true.
type state struct {
	disk        *disk
	current     int                // 0: nothing is active
	generations map[int]Generation // complete ones
	broken      map[int]error      // those whose record cannot be used
	litter      []string           // what a killed call left, below the root
}

// load reads the store without changing it. A store that does not exist is empty.
func load(d *disk) (*state, error) {
	st := &state{disk: d, generations: map[int]Generation{}, broken: map[int]error{}}
	if err := checkDirs(d, generationsDir+"/x"); err != nil {
		return nil, err
	}
	var err error
	if st.current, err = readCurrent(d); err != nil { // first: what it names is there before it
		return nil, err
	}
	names, err := d.list(generationsDir)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		id, ok := generationID(n)
		if !ok {
			st.litter = append(st.litter, path.Join(generationsDir, n))
			continue
		}
		g, err := readRecord(d, id)
		if err != nil {
			st.broken[id] = err
			continue
		}
		st.generations[id] = g
	}
	if _, err := d.root.Lstat(newCurrent); err == nil {
		st.litter = append(st.litter, newCurrent)
	}
	return st, nil
}

// ids are the complete generations, newest first.
func (st *state) ids() []int {
	ids := slices.Sorted(maps.Keys(st.generations))
	slices.Reverse(ids)
	return ids
}

// next is an id that no generation has, and none refers to: each refers only to
// a smaller one than its own.
func (st *state) next() int {
	last := st.current
	for id := range st.generations {
		last = max(last, id)
	}
	for id := range st.broken {
		last = max(last, id)
	}
	return last + 1
}

// generation returns a complete generation.
func (st *state) generation(id int) (Generation, error) {
	if g, ok := st.generations[id]; ok {
		return g, nil
	}
	if err, ok := st.broken[id]; ok {
		return Generation{}, &Damaged{ID: id, Err: err}
	}
	return Generation{}, &Damaged{ID: id, Err: fmt.Errorf("%s: %w", dirOf(id), fs.ErrNotExist)}
}

// dirOf is the directory of a generation.
func dirOf(id int) string { return path.Join(generationsDir, strconv.Itoa(id)) }

// stagingOf is where a generation is before it is complete, and while it is removed.
func stagingOf(id int) string { return path.Join(generationsDir, "."+strconv.Itoa(id)) }

// generationID parses the name of a generation's directory, in its one spelling.
func generationID(name string) (int, bool) {
	id, err := strconv.Atoi(name)
	return id, err == nil && id > 0 && strconv.Itoa(id) == name
}

// readCurrent says which generation is active.
func readCurrent(d *disk) (int, error) {
	target, err := d.root.Readlink(currentLink)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read /%s: %w", currentLink, err)
	}
	name, ok := strings.CutPrefix(target, path.Base(generationsDir)+"/")
	id, valid := generationID(name)
	if !ok || !valid {
		return 0, fmt.Errorf("read /%s: got a link to %q, want one to generations/N", currentLink, target)
	}
	return id, nil
}

// readRecord reads the record of a generation.
func readRecord(d *disk, id int) (Generation, error) {
	f, err := d.open(path.Join(dirOf(id), recordName))
	if err != nil {
		return Generation{}, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord+1))
	if err != nil {
		return Generation{}, err
	}
	g, err := parseRecord(data)
	if err == nil && g.ID != id {
		err = fmt.Errorf("id: got %d, want %d", g.ID, id)
	}
	if err != nil {
		return Generation{}, fmt.Errorf("%s: %w", recordName, err)
	}
	return g, nil
}

// parseRecord accepts a record that this package could have written, so that
// what is done by it (links made and removed) stays within the format's rules.
func parseRecord(data []byte) (Generation, error) {
	if len(data) > maxRecord {
		return Generation{}, fmt.Errorf("got more than %d bytes", maxRecord)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var g Generation
	if err := d.Decode(&g); err != nil {
		return Generation{}, err
	}
	if _, err := d.Token(); err != io.EOF {
		return Generation{}, errors.New("want one JSON value")
	}
	if g.ID <= 0 || g.Previous < 0 || g.Previous >= g.ID {
		return Generation{}, fmt.Errorf("got id %d and previous %d, want 0 <= previous < id", g.ID, g.Previous)
	}
	return g, checkContent(&g.Bundle)
}

// checkContent adds to the format's rules what only a node knows: where its
// store is.
func checkContent(b *content.Bundle) error {
	if err := b.Check(); err != nil {
		return err
	}
	for _, f := range b.Files {
		if p := rel(f.Path); p == storeDir || strings.HasPrefix(p, storeDir+"/") || strings.HasPrefix(storeDir, p+"/") {
			return fmt.Errorf("%s: a bundle cannot hold files of imgctl's own store", f.Path)
		}
	}
	return nil
}

// rel is a bundle's path as a name below the root.
func rel(p string) string { return strings.TrimPrefix(p, "/") }

// checkDirs fails unless each directory above name is a directory or not there.
// A symbolic link is refused even where it stays below the root: what a link
// names can change between two calls, and relative links across it are wrong.
func checkDirs(d *disk, name string) error {
	for i := 1; i < len(name); i++ {
		if name[i] != '/' {
			continue
		}
		fi, err := d.root.Lstat(name[:i])
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if !fi.IsDir() {
			return &Conflict{Paths: []string{"/" + name[:i] + " (" + kind(fi) + ", want a directory)"}}
		}
	}
	return nil
}

// kind says in words what a file is.
func kind(fi fs.FileInfo) string {
	switch fi.Mode().Type() {
	case 0:
		return "a file"
	case fs.ModeDir:
		return "a directory"
	case fs.ModeSymlink:
		return "a symbolic link"
	}
	return "a special file"
}

// open opens a regular file for reading. It does not follow a link in the last
// place, and does not wait for the other end of a pipe.
func (d *disk) open(name string) (*os.File, error) {
	before, err := d.root.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !before.Mode().IsRegular() {
		return nil, fmt.Errorf("open %s: got %s, want a file", name, kind(before))
	}
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	if after, err := f.Stat(); err != nil || !os.SameFile(before, after) {
		return nil, errors.Join(fmt.Errorf("open %s: replaced while it was opened", name), err, f.Close())
	}
	return f, nil
}
