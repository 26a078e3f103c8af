package build_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/build"
)

// several is what makes a spec mean six images: three minors, each in two variants.
var several = []string{
	"versions: [v1.36.2]", "versions: [v1.36.2, stable-1.35, v1.34.9]",
	"alternatives:", `variants:
- name: slim
- name: full
  install: [jq]
  links:
  - {path: /usr/bin/json, target: jq}
alternatives:`,
}

// newSeveral returns a world with such a spec, locked.
func newSeveral(t *testing.T) (*world, *build.Lock) {
	t.Helper()
	w := newWorld(t)
	w.release(t, 50_000, "v1.34.9", "v1.35.6", version)
	w.debian.Packages = append(w.debian.Packages, imgtest.Deb{Name: "jq", Files: []imgtest.DebFile{{Path: "usr/bin/jq", Body: "jq"}}})
	w.debian.Date = w.debian.Date.Add(time.Minute)
	w.debian.Publish(t)
	w.edit(t, several...)
	return w, w.lock(t, nil)
}

func TestOneSpecMeansAnImageForEachVersionAndVariant(t *testing.T) {
	w, l := newSeveral(t)
	var tags []string
	digests := make(map[string]string)
	for _, target := range w.spec(t).Targets(l) {
		r, err := build.Build(t.Context(), w.engine(), w.spec(t), l, target)
		must(t, err)
		tags = append(tags, target.Tag())
		digests[digest(t, r.Index)] = target.Tag()
		m, err := r.Index.IndexManifest()
		must(t, err)
		if got := m.Annotations["org.opencontainers.image.version"]; got != target.Version {
			t.Errorf("%s: got version %q", target.Tag(), got)
		}
		_, system := readLayer(t, layers(t, r, "linux/amd64")[0])
		_, jq := system["usr/bin/jq"]
		_, link := system["usr/bin/json"]
		if full := target.Variant == "full"; jq != full || link != full {
			t.Errorf("%s: jq %v, its link %v, want %v", target.Tag(), jq, link, full)
		}
	}
	want := []string{"v1.36.2", "v1.36.2-full", "v1.35.6", "v1.35.6-full", "v1.34.9", "v1.34.9-full"}
	if !slices.Equal(tags, want) || len(digests) != len(want) {
		t.Errorf("got %d digests of %q, want %q", len(digests), tags, want)
	}
	if l.Upstream[1].Asked != "stable-1.35" || l.Upstream[0].Asked != "" {
		t.Errorf("got %+v, want the channel remembered where one was asked for", l.Upstream)
	}
	// Six images for two platforms have four different layers of packages and six of programs.
	if n := len(modified(t, w)); n != 10 {
		t.Errorf("%d layers were made, want 10", n)
	}
}

func TestSelectNarrowsTargetsDown(t *testing.T) {
	w, l := newSeveral(t)
	all := w.spec(t).Targets(l)
	for _, tt := range []struct{ version, variant, want string }{
		{"", "", "v1.36.2 v1.36.2-full v1.35.6 v1.35.6-full v1.34.9 v1.34.9-full"},
		{"v1.35.6", "", "v1.35.6 v1.35.6-full"},
		{"", "slim", "v1.36.2 v1.35.6 v1.34.9"},
		{"v1.34.9", "full", "v1.34.9-full"},
	} {
		got, err := build.Select(all, tt.version, tt.variant)
		must(t, err)
		var tags []string
		for _, target := range got {
			tags = append(tags, target.Tag())
		}
		if strings.Join(tags, " ") != tt.want {
			t.Errorf("%+v: got %q", tt, tags)
		}
	}
	_, err := build.Select(all, "v1.36.2", "fat")
	if err == nil || !strings.HasPrefix(err.Error(), `version "v1.36.2", variant "fat": no such image, want one of: v1.36.2 slim, v1.36.2 full`) {
		t.Errorf("got %v", err)
	}
}

func TestTwoChannelsOfOneVersionAreRefused(t *testing.T) {
	w := newWorld(t)
	w.edit(t, "versions: [v1.36.2]", "versions: [v1.36.2, stable-1.36]")
	locker := &build.Locker{Upstream: w.upstream(), Debian: w.archives()}
	if _, err := locker.Lock(t.Context(), w.spec(t), nil); err == nil || !strings.Contains(err.Error(), "stable-1.36: is v1.36.2, which is there already") {
		t.Errorf("got %v", err)
	}
}

func TestVariantsAreCheckedWithWhatAllHave(t *testing.T) {
	for name, tt := range map[string]struct{ old, new, want string }{
		"twice":        {"- name: full", "- name: slim", "variants[1].name: slim is given twice"},
		"default":      {"- name: full", "- name: default", `variants[1].name: got "default"`},
		"no name":      {"- name: full", `- name: "../x"`, `variants[1].name: got "../x"`},
		"package":      {"install: [jq]", "install: [iptables]", "variant full: packages.install: iptables is given twice"},
		"path":         {"path: /usr/bin/json", "path: /usr/local/bin/KUBELET", "variant full: links[0].path: /usr/local/bin/KUBELET collides with upstream.files[0].path"},
		"what is good": {"install: [jq]", "install: [jq]", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.edit(t, several...)
			text, err := os.ReadFile(filepath.Join(w.dir, build.SpecFile))
			must(t, err)
			w.write(t, build.SpecFile, strings.Replace(string(text), tt.old, tt.new, 1))
			_, err = build.LoadSpec(w.dir)
			if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// scratch is an image of a program of one's own and nothing else.
const scratch = `apiVersion: imgctl.dev/v1
kind: Image
platforms: [linux/amd64, linux/arm64]
local:
- {source: "bin/tool-{arch}", path: /usr/bin/tool}
entrypoint: [/usr/bin/tool]
user: "65532"
`

func newScratch(t *testing.T) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), cache: t.TempDir()}
	w.write(t, build.SpecFile, scratch)
	must(t, os.Mkdir(filepath.Join(w.dir, "bin"), 0o755))
	w.write(t, "bin/tool-amd64", "amd64's")
	w.write(t, "bin/tool-arm64", "arm64's")
	return w
}

// lockOffline locks a spec that needs nobody to be asked.
func (w *world) lockOffline(t *testing.T) *build.Lock {
	t.Helper()
	l, err := (&build.Locker{}).Lock(t.Context(), w.spec(t), nil)
	must(t, err)
	must(t, l.Save(w.dir))
	return l
}

func (w *world) buildOffline(t *testing.T) (*build.Result, error) {
	t.Helper()
	l, err := build.LoadLock(w.dir)
	must(t, err)
	engine := &build.Layers{Materials: &build.Materials{Cache: w.cache}}
	return build.Build(t.Context(), engine, w.spec(t), l, w.target(t, l))
}

func TestAnImageOfNothingButAProgram(t *testing.T) {
	w := newScratch(t)
	l := w.lockOffline(t)
	r, err := w.buildOffline(t)
	must(t, err)
	if !l.Created.Equal(time.Unix(0, 0)) || r.Target.Tag() != "latest" {
		t.Errorf("got %s of %s", r.Target.Tag(), l.Created)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		all := layers(t, r, "linux/"+arch)
		if len(all) != 1 {
			t.Fatalf("%s: got %d layers, want one", arch, len(all))
		}
		headers, bodies := readLayer(t, all[0])
		if h := headers["usr/bin/tool"]; string(bodies["usr/bin/tool"]) != arch+"'s" || h.Mode != 0o755 || len(headers) != 3 {
			t.Errorf("%s: got %q in %d entries", arch, bodies["usr/bin/tool"], len(headers))
		}
	}
	config, err := r.Images["linux/arm64"].ConfigFile()
	must(t, err)
	if config.Config.User != "65532" {
		t.Errorf("got user %q", config.Config.User)
	}
}

// One lock, one truth: a file beside the spec that is no longer what was locked is not built.
func TestALocalFileThatChangedMakesTheLockStale(t *testing.T) {
	w := newScratch(t)
	w.lockOffline(t)
	w.write(t, "bin/tool-arm64", "another")
	_, err := w.buildOffline(t)
	var stale *build.StaleError
	if !errors.As(err, &stale) || !strings.Contains(err.Error(), "made for another bin/tool-arm64 (got ") {
		t.Errorf("got %v, want a StaleError", err)
	}
	w.write(t, "bin/tool-arm64", "arm64's")
	if _, err := w.buildOffline(t); err != nil {
		t.Errorf("got %v, want the file that was locked to do", err)
	}
}

// B09: nothing beside the spec leads out of its directory.
func TestALocalFileIsNoLinkToElsewhere(t *testing.T) {
	w := newScratch(t)
	file := filepath.Join(w.dir, "bin/tool-amd64")
	for name, put := range map[string]func() error{
		"shadow": func() error { return os.Symlink("/etc/shadow", file) },
		"parent": func() error { return os.Symlink("../../..", file) },
		"folder": func() error { return os.Mkdir(file, 0o755) },
	} {
		must(t, os.RemoveAll(file))
		must(t, put())
		if _, err := (&build.Locker{}).Lock(t.Context(), w.spec(t), nil); err == nil || !strings.Contains(err.Error(), "bin/tool-amd64") {
			t.Errorf("%s: got %v, want it refused by name", name, err)
		}
	}
	must(t, os.RemoveAll(file))
	must(t, os.Symlink("tool-arm64", file)) // beside the spec, a link is as good as a file
	w.lockOffline(t)
}

func TestWhatBelongsTogetherIsAskedForTogether(t *testing.T) {
	w := newScratch(t)
	for name, tt := range map[string]struct{ add, want string }{
		"files without versions": {"upstream:\n  files:\n  - {name: kubelet, path: /usr/bin/kubelet}\n", "upstream: got 0 versions and 1 files"},
		"versions without files": {"upstream:\n  versions: [v1.36.2]\n", "upstream: got 1 versions and 0 files"},
		"packages of nowhere":    {"packages:\n  install: [jq]\n", "packages.suites: none given"},
		"unknown placeholder":    {"links:\n- {path: /usr/bin/tool, target: x}\n", "links[0].path: /usr/bin/tool collides with local[0].path"},
		"user":                   {"workdir: relative\n", "workdir: got"},
		"what is good":           {"links:\n- {path: /usr/bin/alias, target: tool}\n", ""},
	} {
		w.write(t, build.SpecFile, scratch+tt.add)
		_, err := build.LoadSpec(w.dir)
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	w.write(t, build.SpecFile, strings.Replace(scratch, "{arch}", "{os}", 1))
	if _, err := build.LoadSpec(w.dir); err == nil || !strings.Contains(err.Error(), `local[0].source: got "bin/tool-{os}"`) {
		t.Errorf("got %v", err)
	}
}

// The example in the repository builds, with programs that stand in for the real ones.
func TestTheExampleOfAControlPlaneImage(t *testing.T) {
	w := newWorld(t)
	text, err := os.ReadFile("../../images/kube-apiserver/image.yaml")
	must(t, err)
	w.write(t, build.SpecFile, string(text))
	w.lock(t, nil)
	r := w.mustBuild(t)
	all := layers(t, r, "linux/arm64")
	_, system := readLayer(t, all[0])
	headers, _ := readLayer(t, all[1])
	if _, there := headers["usr/local/bin/kube-apiserver"]; !there || len(all) != 2 {
		t.Errorf("got %d layers, the last with %v", len(all), headers)
	}
	if passwd := string(system["etc/passwd"]); !strings.Contains(passwd, "kube-apiserver:!:11001:11001:") {
		t.Errorf("got %q, want the account of the spec", passwd)
	}
}
