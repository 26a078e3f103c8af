package buildkit

import (
	"archive/tar"
	"bytes"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/solver/pb"
	digest "github.com/opencontainers/go-digest"

	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

// operations reads a definition back.
func operations(t *testing.T, def *llb.Definition) []*pb.Op {
	t.Helper()
	var ops []*pb.Op
	for _, dt := range def.Def {
		var op pb.Op
		if err := op.UnmarshalVT(dt); err != nil {
			t.Fatal(err)
		}
		ops = append(ops, &op)
	}
	return ops
}

// system is the definition of an image with packages and a program.
func system(t *testing.T, cfg rootfs.Config) (*graph, *llb.Definition) {
	t.Helper()
	p, err := newPlan(readDebs(t, essentials(tree)...))
	if err != nil {
		t.Fatal(err)
	}
	cfg.Created = created
	g := newGraph(arm64)
	s, err := g.system(cfg, p, upload{"essential_0.tar.zst", "/dev/null"})
	if err != nil {
		t.Fatal(err)
	}
	programs := g.programs([]program{{upload{digestsOf(1)[0], "/dev/null"}, "/usr/local/bin/kubelet", 0o755}})
	def, err := g.marshal(t.Context(), llb.Merge([]llb.State{s, programs}))
	if err != nil {
		t.Fatal(err)
	}
	return g, def
}

func TestNoStepHasANetworkOrMoreRightsThanItNeeds(t *testing.T) {
	_, def := system(t, rootfs.Config{})
	steps := 0
	for _, op := range operations(t, def) {
		e := op.GetExec()
		if e == nil {
			continue
		}
		steps++
		if e.Network != pb.NetMode_NONE || e.Security != pb.SecurityMode_SANDBOX || len(e.Secretenv) > 0 || e.Meta.ProxyEnv != nil {
			t.Errorf("%q: got network %v, security %v", e.Meta.Args, e.Network, e.Security)
		}
		if op.Platform.Architecture != "arm64" || op.Platform.OS != "linux" {
			t.Errorf("%q: got platform %v, want linux/arm64", e.Meta.Args, op.Platform)
		}
		if len(e.Meta.Args) < 3 || e.Meta.Args[0] != "/bin/sh" || !strings.HasPrefix(e.Meta.Args[1], dataDir+"/") {
			t.Errorf("got %q, want one of our scripts", e.Meta.Args)
		}
		for _, m := range e.Mounts {
			if m.MountType != pb.MountType_BIND || !m.Readonly && m.Dest != "/" {
				t.Errorf("%q: mount %v, want it read-only", e.Meta.Args, m)
			}
		}
	}
	if steps != 4 {
		t.Errorf("got %d steps, want those of the essential packages, one batch, the spec and the end", steps)
	}
}

func TestEverythingThatIsFetchedIsOurs(t *testing.T) {
	g, def := system(t, rootfs.Config{})
	var got []string
	for _, op := range operations(t, def) {
		if s := op.GetSource(); s != nil {
			got = append(got, s.Identifier)
			name := strings.TrimPrefix(s.Identifier, "local://")
			if g.mounts[name] == nil || s.Attrs[pb.AttrSharedKeyHint] != name {
				t.Errorf("%s: got %v, want files under a key of their own", s.Identifier, s.Attrs)
			}
		}
	}
	slices.Sort(got)
	if want := []string{"local://essential-linux-arm64", "local://packages0-linux-arm64", "local://packages1-linux-arm64", "local://programs-linux-arm64"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTheSameInputIsTheSameDefinition(t *testing.T) {
	sum := func(cfg rootfs.Config) string {
		_, def := system(t, cfg)
		var all []byte
		for _, dt := range def.Def {
			all = append(all, dt...)
		}
		return digest.FromBytes(all).String()
	}
	cfg := rootfs.Config{Files: []rootfs.File{{Path: "/etc/a", Content: "a"}, {Path: "/etc/b", Content: "b"}}, Exclude: []string{"/x/*"}}
	if a, b := sum(cfg), sum(cfg); a != b {
		t.Errorf("got %s and %s", a, b)
	}
	other := cfg
	other.Links = []rootfs.Link{{Path: "/c", Target: "d"}}
	if sum(cfg) == sum(other) {
		t.Error("another spec: got the same definition")
	}
}

func TestAnotherFileOfTheSpecIsNoReasonToInstallAgain(t *testing.T) {
	run := func(cfg rootfs.Config) map[string]string {
		_, def := system(t, cfg)
		steps := make(map[string]string)
		for i, op := range operations(t, def) {
			if e := op.GetExec(); e != nil && !strings.HasSuffix(e.Meta.Args[1], "/spec.sh") && !strings.HasSuffix(e.Meta.Args[1], "/finish.sh") {
				steps[e.Meta.Args[1]] = digest.FromBytes(def.Def[i]).String()
			}
		}
		return steps
	}
	before, after := run(rootfs.Config{}), run(rootfs.Config{Files: []rootfs.File{{Path: "/etc/a", Content: "a"}}})
	if len(before) != 2 || !maps.Equal(before, after) {
		t.Errorf("got %v, want what it was before: %v", after, before)
	}
	if other := run(rootfs.Config{Groups: []rootfs.Group{{Name: "g", GID: 5}}}); maps.Equal(before, other) {
		t.Error("another group: got the same steps, want the accounts to be there before any package asks")
	}
}

func TestProgramsHaveTheirModeAndDirectoriesTheirOwn(t *testing.T) {
	g := newGraph(amd64)
	def, err := g.marshal(t.Context(), g.programs([]program{{upload{"a", ""}, "/opt/x/secret", 0o4711}}))
	if err != nil {
		t.Fatal(err)
	}
	var dirs, copies int
	for _, op := range operations(t, def) {
		for _, a := range op.GetFile().GetActions() {
			if m := a.GetMkdir(); m != nil && m.Path == "/opt/x" {
				dirs++
				if m.Mode != 0o755 || !m.MakeParents || m.Timestamp != 0 {
					t.Errorf("directory: got %v", m)
				}
			}
			if c := a.GetCopy(); c != nil {
				copies++
				if c.Mode != 0o4711 || c.Dest != "/opt/x/secret" || c.Timestamp != 0 || c.Owner.GetUser().GetByID() != 0 || c.Owner.GetGroup().GetByID() != 0 {
					t.Errorf("copy: got %v", c)
				}
			}
		}
	}
	if dirs != 1 || copies != 1 {
		t.Errorf("got %d directories and %d copies, want one each", dirs, copies)
	}
}

func TestUploadsAreAFlatDirectoryInOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	must(t, os.WriteFile(file, []byte("content"), 0o600))
	u := uploads{{"b", file}, {"a", file}, {"b", file}}
	for target, want := range map[string]string{"": "a b", "/": "a b", ".": "a b", "b": "b", "/b": "b", "c": ""} {
		var got []string
		err := u.Walk(t.Context(), target, func(name string, e fs.DirEntry, err error) error {
			got = append(got, name)
			fi, infoErr := e.Info()
			if err != nil || infoErr != nil || fi.Size() != 7 || fi.Mode() != 0o644 || fi.ModTime().Unix() != 0 || fi.IsDir() {
				t.Errorf("%s: got %v, %v, %v", name, fi, err, infoErr)
			}
			return nil
		})
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%q: got %q, %v; want %q", target, got, err, want)
		}
	}
	r, err := u.Open("a")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if data, err := io.ReadAll(r); err != nil || string(data) != "content" {
		t.Errorf("got %q, %v", data, err)
	}
	if _, err := u.Open("../x"); err == nil {
		t.Error("a file that is not among them was opened")
	}
}

func TestUploadThatVanishedIsAnError(t *testing.T) {
	u := uploads{{"a", filepath.Join(t.TempDir(), "gone")}}
	if err := u.Walk(t.Context(), "", func(string, fs.DirEntry, error) error { return nil }); err == nil {
		t.Error("got no error")
	}
}

func TestImageWithoutPackagesHasWhatTheSpecSays(t *testing.T) {
	data, err := writeBare(rootfs.Config{Created: created,
		Users: []rootfs.User{{Name: "kube", UID: 11001, GID: 11002, Home: "/var/kube"}}, Groups: []rootfs.Group{{Name: "kubes", GID: 11002}},
		Directories: []rootfs.Directory{{Path: "/var/kube/deep"}, {Path: "/var/kube", Owner: rootfs.Owner{Mode: "1770", User: "kube", Group: "kubes"}}},
		Files:       []rootfs.File{{Path: "/var/kube/deep/f", Content: "text", Owner: rootfs.Owner{Mode: "4711"}}},
		Links:       []rootfs.Link{{Path: "/etc/l", Target: "../f"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]tar.Header)
	var order []string
	body := make(map[string]string)
	for r := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if !h.ModTime.Equal(created) {
			t.Errorf("%s: got %s", h.Name, h.ModTime)
		}
		text, err := io.ReadAll(r)
		must(t, err)
		got[h.Name], body[h.Name], order = *h, string(text), append(order, h.Name)
	}
	if want := "etc/ etc/group etc/l etc/passwd var/ var/kube/ var/kube/deep/ var/kube/deep/f"; strings.Join(order, " ") != want {
		t.Errorf("got %q, want %q", order, want)
	}
	for name, want := range map[string]tar.Header{
		"var/":            {Mode: 0o755},
		"var/kube/":       {Mode: 0o1770, Uid: 11001, Gid: 11002},
		"var/kube/deep/":  {Mode: 0o755},
		"var/kube/deep/f": {Mode: 0o4711},
		"etc/passwd":      {Mode: 0o644},
	} {
		if h := got[name]; h.Mode != want.Mode || h.Uid != want.Uid || h.Gid != want.Gid {
			t.Errorf("%s: got mode %o of %d:%d, want %o of %d:%d", name, h.Mode, h.Uid, h.Gid, want.Mode, want.Uid, want.Gid)
		}
	}
	if got["etc/l"].Linkname != "../f" || body["var/kube/deep/f"] != "text" {
		t.Errorf("got %+v and %q", got["etc/l"], body)
	}
	if want := "root:*:0:0:root:/root:/usr/sbin/nologin\nnobody:*:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\nkube:!:11001:11002::/var/kube:/usr/sbin/nologin\n"; body["etc/passwd"] != want {
		t.Errorf("got %q, want %q", body["etc/passwd"], want)
	}
	if want := "root:*:0:\nnogroup:*:65534:\nkubes:!:11002:\n"; body["etc/group"] != want {
		t.Errorf("got %q, want %q", body["etc/group"], want)
	}
}

func TestWithoutPackagesSomeThingsCannotBe(t *testing.T) {
	for want, cfg := range map[string]rootfs.Config{
		"/etc/none is not in the image":     {Files: []rootfs.File{{Path: "/x", Copy: "/etc/none"}}},
		"/usr/bin/mawk is not in the image": {Alternatives: []rootfs.Alternative{{Name: "awk", Path: "/usr/bin/mawk"}}},
		`there is no user "statd"`:          {Directories: []rootfs.Directory{{Path: "/x", Owner: rootfs.Owner{User: "statd"}}}},
		`there is no group "shadow"`:        {Files: []rootfs.File{{Path: "/x", Owner: rootfs.Owner{Group: "shadow"}}}},
		"/x/y: /x is no directory":          {Files: []rootfs.File{{Path: "/x"}, {Path: "/x/y"}}},
		"links: /etc/passwd: already there": {Links: []rootfs.Link{{Path: "/etc/passwd", Target: "x"}}},
		`mode "rwx"`:                        {Directories: []rootfs.Directory{{Path: "/x", Owner: rootfs.Owner{Mode: "rwx"}}}},
	} {
		_, err := writeBare(cfg)
		has(t, err, want)
	}
}
