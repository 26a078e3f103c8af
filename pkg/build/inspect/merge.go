package inspect

import (
	"fmt"
	"path"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// node is an entry and what is below it, so that deleting a directory is one step.
type node struct {
	*Entry
	below map[string]*node // by name; nil unless it is a directory
}

func newNode(e *Entry) *node {
	n := &node{Entry: e}
	if e.Type == Directory {
		n.below = make(map[string]*node)
	}
	return n
}

// implied returns a directory that no layer has itself.
func implied(name string, layer int) *node {
	return newNode(&Entry{Path: name, Type: Directory, Mode: 0o755, Layer: layer, Implied: true})
}

// merger lays layers over each other.
type merger struct {
	layers []Layer
	root   *node
}

// merge lays the layers over each other, the first at the bottom.
func merge(layers []v1.Layer, listings []*listing) (*FS, error) {
	m := &merger{root: implied("/", 0)}
	for i, l := range listings {
		digest, err := layers[i].Digest()
		if err != nil {
			return nil, err
		}
		size, err := layers[i].Size()
		if err != nil {
			return nil, err
		}
		m.layers = append(m.layers, Layer{Digest: digest.String(), Compressed: size, Uncompressed: l.Size})
		if err := m.apply(i, l); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i, err)
		}
	}
	f := &FS{Layers: m.layers, byPath: make(map[string]*Entry)}
	f.flatten(m.root)
	slices.SortFunc(f.entries, func(a, b *Entry) int { return strings.Compare(a.Path, b.Path) })
	f.nameInodes()
	return f, nil
}

// apply puts a layer over what is there. Whiteouts are about the layers below
// only, wherever in the archive they stand (image-spec, layer.md).
func (m *merger) apply(layer int, l *listing) error {
	for _, name := range l.Opaque {
		dir, err := m.directory(name)
		if err != nil {
			return err
		}
		if dir == nil {
			continue
		}
		for base := range dir.below {
			m.hide(dir, base)
		}
	}
	for _, name := range l.Whiteouts {
		dir, err := m.directory(path.Dir(name))
		if err != nil {
			return err
		}
		if dir != nil {
			m.hide(dir, path.Base(name))
		}
	}
	for _, e := range l.Entries {
		e.Layer, e.text = layer, l.Texts[e.Path]
		if err := m.put(e); err != nil {
			return err
		}
	}
	return nil
}

// put adds an entry. A directory over a directory changes what it is, not what is below it.
func (m *merger) put(e *Entry) error {
	if e.Type != Directory {
		m.layers[e.Layer].Files++
	}
	if e.Path == "/" {
		m.root.Entry = e
		return nil
	}
	dir, err := m.mkdirs(path.Dir(e.Path), e.Layer)
	if err != nil {
		return err
	}
	base := path.Base(e.Path)
	if old := dir.below[base]; old != nil && old.Type == Directory && e.Type == Directory {
		old.Entry = e
		return nil
	}
	m.hide(dir, base)
	dir.below[base] = newNode(e)
	return nil
}

// mkdirs returns the directory, which is made when it is not there.
func (m *merger) mkdirs(name string, layer int) (*node, error) {
	if name == "/" {
		return m.root, nil
	}
	above, err := m.mkdirs(path.Dir(name), layer)
	if err != nil {
		return nil, err
	}
	base := path.Base(name)
	if above.below[base] == nil {
		above.below[base] = implied(name, layer)
	}
	return above.below[base], above.below[base].mustBeDirectory()
}

// directory returns the directory, nil when it is not there.
func (m *merger) directory(name string) (*node, error) {
	if name == "/" {
		return m.root, nil
	}
	above, err := m.directory(path.Dir(name))
	if above == nil || err != nil {
		return nil, err
	}
	n := above.below[path.Base(name)]
	if n == nil {
		return nil, nil
	}
	return n, n.mustBeDirectory()
}

// mustBeDirectory refuses a link of a lower layer on the way to an entry: some
// programs follow it, others put a directory in its place.
func (n *node) mustBeDirectory() error {
	if n.Type == Directory {
		return nil
	}
	return &EntryError{Entry: n.Path, Why: fmt.Sprintf("a %s of layer %d; a layer above has something below it", n.Type, n.Layer)}
}

// hide removes what is called base in the directory, if there is such a thing.
func (m *merger) hide(dir *node, base string) {
	n := dir.below[base]
	if n == nil {
		return
	}
	for name := range n.below {
		m.hide(n, name)
	}
	if n.Inode == "" || n.Inode == n.Path {
		m.layers[n.Layer].Hidden += n.Size
	}
	delete(dir.below, base)
}

// flatten adds n and what is below it.
func (f *FS) flatten(n *node) {
	f.entries = append(f.entries, n.Entry)
	f.byPath[n.Path] = n.Entry
	for _, child := range n.below {
		f.flatten(child)
	}
}

// nameInodes makes Inode the first of the names that are left of each file.
func (f *FS) nameInodes() {
	type inode struct {
		layer int
		name  string
	}
	names := make(map[inode][]*Entry)
	for _, e := range f.entries {
		if e.Inode != "" {
			id := inode{e.Layer, e.Inode}
			names[id] = append(names[id], e)
		}
	}
	for _, entries := range names {
		for _, e := range entries {
			e.Inode = entries[0].Path
			if len(entries) == 1 {
				e.Inode = ""
			}
		}
	}
}
