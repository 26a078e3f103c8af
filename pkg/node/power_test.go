package node

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A power cut loses what was not synced: the bytes of a file until the file is,
// and a name in a directory until the directory is. modelDisk replays the steps
// of an installation and says what a machine finds after a cut.
type modelDisk struct{ root *inode }

// inode has each property twice: as programs see it, and as a cut leaves it.
type inode struct {
	mode, modeOnDisk   fs.FileMode // 0: a symbolic link
	data, dataOnDisk   string      // of a file; the target of a link
	names, namesOnDisk map[string]*inode
}

func newDir() *inode {
	return &inode{mode: fs.ModeDir | 0o755, modeOnDisk: fs.ModeDir | 0o755, names: map[string]*inode{}, namesOnDisk: map[string]*inode{}}
}

// read makes an inode of what is on the real disk, all of it durable.
func readInode(t *testing.T, name string) *inode {
	t.Helper()
	fi, err := os.Lstat(name)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Type() == fs.ModeSymlink {
		target, err := os.Readlink(name)
		if err != nil {
			t.Fatal(err)
		}
		return &inode{data: target, dataOnDisk: target}
	}
	if fi.IsDir() {
		n := newDir()
		entries, err := os.ReadDir(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			n.names[e.Name()] = readInode(t, filepath.Join(name, e.Name()))
		}
		n.namesOnDisk = maps.Clone(n.names)
		return n
	}
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return &inode{mode: fi.Mode(), modeOnDisk: fi.Mode(), data: string(data), dataOnDisk: string(data)}
}

func (m modelDisk) find(name string) *inode {
	n := m.root
	if name == "." {
		return n
	}
	for part := range strings.SplitSeq(name, "/") {
		n = n.names[part]
	}
	return n
}

// take does one step.
func (m modelDisk) take(s step) {
	dir, base := m.find(path.Dir(s.Path)), path.Base(s.Path)
	switch s.Call {
	case "mkdir":
		dir.names[base] = newDir()
	case "create":
		dir.names[base] = &inode{mode: 0o600, modeOnDisk: 0o600}
	case "write":
		dir.names[base].data += string(s.Data)
	case "chmod":
		dir.names[base].mode = dir.names[base].mode.Type() | s.Mode
	case "sync":
		n := dir.names[base]
		n.dataOnDisk, n.modeOnDisk = n.data, n.mode
	case "syncdir":
		n := m.find(s.Path)
		n.namesOnDisk = maps.Clone(n.names)
	case "symlink":
		dir.names[base] = &inode{data: s.To, dataOnDisk: s.To}
	case "rename":
		m.find(path.Dir(s.To)).names[path.Base(s.To)] = dir.names[base]
		delete(dir.names, base)
	case "remove":
		delete(dir.names, base)
	default:
		panic("step " + s.Call + " is not in the model")
	}
}

// cut decides what of the unsynced survives a power cut.
type cut struct {
	name     string
	survives func(*rand.Rand) bool           // of a name that was added or removed
	data     func(*rand.Rand, *inode) string // of a file
}

func cuts() []cut {
	return []cut{
		{"all lost", func(*rand.Rand) bool { return false }, func(_ *rand.Rand, n *inode) string { return n.dataOnDisk }},
		{"some lost", func(r *rand.Rand) bool { return r.IntN(2) == 0 }, func(r *rand.Rand, n *inode) string {
			if r.IntN(2) == 0 {
				return n.dataOnDisk
			}
			return n.data
		}},
		{"names kept, data torn", func(*rand.Rand) bool { return true }, func(r *rand.Rand, n *inode) string {
			if n.dataOnDisk == n.data {
				return n.data
			}
			return n.data[:r.IntN(len(n.data))] // a prefix, for it grows from nothing
		}},
	}
}

// after lists what a machine finds after a cut: name → inode, with the data and
// mode in it that survived.
func (c cut) after(r *rand.Rand, n *inode, name string, found map[string]inode) {
	if n.names == nil {
		left := inode{data: c.data(r, n), mode: n.modeOnDisk}
		found[name] = left
		return
	}
	found[name] = inode{mode: n.mode}
	all := maps.Clone(n.namesOnDisk)
	maps.Copy(all, n.names)
	for _, base := range slices.Sorted(maps.Keys(all)) {
		child := n.namesOnDisk[base]
		if n.names[base] != child && c.survives(r) {
			child = n.names[base]
		}
		if child != nil {
			c.after(r, child, path.Join(name, base), found)
		}
	}
}

// powerUp makes a machine of what a cut left.
func powerUp(t *testing.T, found map[string]inode) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(found)) {
		n, p := found[name], filepath.Join(root, name)
		var err error
		switch {
		case name == ".":
		case n.mode.IsDir():
			err = os.Mkdir(p, 0o755)
		case n.mode == 0:
			err = os.Symlink(n.data, p)
		default:
			err = errors.Join(os.WriteFile(p, []byte(n.data), 0o600), os.Chmod(p, n.mode))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// recordSteps runs a story and returns its steps.
func (st story) recordSteps(t *testing.T, template string) []step {
	t.Helper()
	var c counter
	s := storeAt(copyOf(t, template))
	s.trap = c.trap()
	if err := st.do(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	return c.steps
}

// N02: the power may go at any moment, and whatever was not synced may be lost,
// in part lost or torn.
func TestPowerCutAtEveryStep(t *testing.T) {
	for _, st := range stories() {
		for _, c := range cuts() {
			t.Run(st.name+" "+c.name, func(t *testing.T) {
				t.Parallel()
				template := st.machine(t)
				steps := st.recordSteps(t, template)
				m := modelDisk{readInode(t, template)}
				tried := map[string]bool{}
				for n := 0; n <= len(steps); n++ {
					if n > 0 {
						m.take(steps[n-1])
					}
					for seed := range uint64(3) {
						found := map[string]inode{}
						c.after(rand.New(rand.NewPCG(seed, uint64(n))), m.root, ".", found)
						key := fmt.Sprint(found)
						if tried[key] {
							continue
						}
						tried[key] = true
						root := powerUp(t, found)
						if state := sees(t, root, st.old, st.new); n == len(steps) && state == 0 && st.name != "prune" {
							t.Errorf("%s had ended, and was lost", st.name)
						}
						if !intact(t, root) {
							t.Errorf("after step %d the active generation is damaged", n)
						}
						st.converges(t, root)
					}
				}
				t.Logf("%d steps, %d different machines", len(steps), len(tried))
			})
		}
	}
}

// intact reports whether the store's own record agrees with what is active.
func intact(t *testing.T, root string) bool {
	t.Helper()
	status, err := storeAt(root).Status(t.Context())
	return err == nil && len(status.Changes) == 0
}

// The negative control: an installation that forgets any one of its syncs is
// caught by the model, so the test above can fail.
func TestEverySyncIsNeeded(t *testing.T) {
	st := stories()[0]
	steps := st.recordSteps(t, t.TempDir())
	forgotten := 0
	for i, s := range steps {
		if s.Call != "sync" && s.Call != "syncdir" {
			continue
		}
		forgotten++
		if !st.caught(t, slices.Delete(slices.Clone(steps), i, i+1)) {
			t.Errorf("nobody notices that step %d is missing: %s %s", i+1, s.Call, s.Path)
		}
	}
	if forgotten < 10 {
		t.Errorf("got %d syncs, want more", forgotten)
	}
	if st.caught(t, steps) {
		t.Error("the installation as it is was caught")
	}
}

// caught reports whether a power cut during or after the steps, taken on an
// empty machine, leaves one that is neither old nor new.
func (st story) caught(t *testing.T, steps []step) bool {
	t.Helper()
	bad := func(m modelDisk, c cut, seed uint64, ended bool) bool {
		found := map[string]inode{}
		c.after(rand.New(rand.NewPCG(seed, 0)), m.root, ".", found)
		root := powerUp(t, found)
		isNew := difference(root, st.new, nil) == ""
		isOld := difference(root, st.old, []kit{st.new}) == ""
		return !intact(t, root) || !isNew && (ended || !isOld)
	}
	m := modelDisk{newDir()}
	for _, s := range steps {
		m.take(s)
	}
	if bad(m, cuts()[0], 0, true) { // the usual case
		return true
	}
	m = modelDisk{newDir()}
	for _, s := range steps {
		m.take(s)
		if s.Call != "rename" { // what is lost matters when something leads to it
			continue
		}
		for seed := range uint64(32) {
			if bad(m, cuts()[1], seed, false) {
				return true
			}
		}
	}
	return false
}
