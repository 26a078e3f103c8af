package build_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build"
)

// load loads a spec of the given text.
func load(t testing.TB, text string) (*build.Spec, error) {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(filepath.Join(dir, build.SpecFile), []byte(text), 0o644))
	must(t, os.WriteFile(filepath.Join(dir, "archive.gpg"), []byte("key"), 0o644))
	return build.LoadSpec(dir)
}

func TestASpecIsReadWithItsDefaults(t *testing.T) {
	s, err := load(t, spec)
	must(t, err)
	if got := strings.Join(s.Platforms, " "); got != "linux/amd64 linux/arm64" {
		t.Errorf("got platforms %s, want them sorted", got)
	}
	if len(s.Upstream.Require) != 2 || s.Upstream.Require[0] != "pin" || s.Upstream.Require[1] != "signature" {
		t.Errorf("got %q, want pin and signature to be required where nothing is said", s.Upstream.Require)
	}
	if string(s.Keyring()) != "key" {
		t.Errorf("got %q", s.Keyring())
	}
	if got := s.Compression.Packages.String() + ", " + s.Compression.Programs.String(); got != "gzip 6, gzip 6" {
		t.Errorf("got %s, want what the spec says", got)
	}
	silent, _, _ := strings.Cut(spec, "compression:")
	s, err = load(t, silent)
	must(t, err)
	if got := s.Compression.Packages.String() + ", " + s.Compression.Programs.String(); got != "zstd 9, zstd 9" {
		t.Errorf("got %s where nothing is said", got)
	}
}

// C02 and its kind: each mistake is one line with the file, the place or the field, and what was wanted.
func TestASpecThatCouldBeMisreadIsRefused(t *testing.T) {
	for name, tt := range map[string]struct{ old, new, want string }{
		"unknown key":        {"entrypoint:", "entrypiont:", `image.yaml:23:1: unknown field "entrypiont"`},
		"duplicate key":      {"  suites: [trixie]", "  suites: [trixie]\n  suites: [sid]", "image.yaml:11:3: "},
		"other kind":         {"kind: Image", "kind: Bundle", `image.yaml:2:7: kind: got "Bundle", want "Image"`},
		"wrong type":         {"uid: 100", "uid: root", "image.yaml:16:"},
		"no platform":        {"[linux/arm64, linux/amd64]", "[]", "image.yaml: platforms: none given"},
		"unknown platform":   {"linux/arm64,", "linux/riscv64,", `platforms: got "linux/riscv64", want linux/amd64 or linux/arm64`},
		"platform twice":     {"linux/arm64,", "linux/amd64,", "platforms: linux/amd64 is given twice"},
		"version":            {"versions: [v1.36.2]", "versions: [1.36.2]", `upstream.versions[0]: got "1.36.2", want`},
		"half a version":     {"versions: [v1.36.2]", "versions: [v1.36]", `upstream.versions[0]: got "v1.36"`},
		"proof":              {"versions: [v1.36.2]", "versions: [v1.36.2]\n  require: [luck]", `upstream.require[0]: got "luck", want pin, signature or checksum`},
		"base":               {"versions: [v1.36.2]", "versions: [v1.36.2]\n  bases: [\"file:///etc\"]", `upstream.bases[0]: got "file:///etc"`},
		"secret in a base":   {"versions: [v1.36.2]", "versions: [v1.36.2]\n  bases: [\"https://me:secret@host/\"]", `upstream.bases[0]: got "https://me:xxxxx@host/"`},
		"rekor":              {"versions: [v1.36.2]", "versions: [v1.36.2]\n  rekor: rekor", `upstream.rekor: got "rekor"`},
		"member and name":    {"{name: kubectl,", "{name: kubectl, member: x,", "upstream.files[1]: want exactly one of member"},
		"neither":            {"{name: kubectl,", "{", "upstream.files[1]: want exactly one of member"},
		"name":               {"{name: kubectl,", "{name: ../kubectl,", `upstream.files[1]: name: got "../kubectl"`},
		"member":             {"member: kubernetes/node", "member: ../node", "upstream.files[0]: member: got"},
		"relative path":      {"path: /usr/local/bin/kubelet}", "path: usr/local/bin/kubelet}", `upstream.files[0].path: got "usr/local/bin/kubelet", want an absolute clean path`},
		"path with dots":     {"path: /usr/local/bin/kubelet}", "path: /usr/../bin/kubelet}", "upstream.files[0].path: got"},
		"whiteout":           {"path: /usr/local/bin/kubelet}", "path: /usr/.wh.lib}", "upstream.files[0].path: got"},
		"duplicate path":     {"/usr/local/bin/kubectl}", "/usr/local/bin/kubelet}", "upstream.files[1].path: /usr/local/bin/kubelet collides with upstream.files[0].path"},
		"case collision":     {"/usr/local/bin/kubectl}", "/usr/local/bin/Kubelet}", "upstream.files[1].path: /usr/local/bin/Kubelet collides with upstream.files[0].path"},
		"suite":              {"suites: [trixie]", "suites: [../trixie]", "packages.suites[0]: got"},
		"keyring elsewhere":  {"keyring: archive.gpg", "keyring: ../archive.gpg", "packages.keyring: got"},
		"keyring missing":    {"keyring: archive.gpg", "keyring: absent.gpg", "packages.keyring: openat absent.gpg"},
		"archive":            {"suites: [trixie]", "suites: [trixie]\n  archives: {debian: \"ftp://host/debian\"}", "packages.archives.debian: got"},
		"package":            {"tool-static]", "Tool]", `packages.install: got "Tool"`},
		"package twice":      {"tool-static]", "iptables]", "packages.install: iptables is given twice"},
		"exclude":            {"exclude: [/usr", "exclude: [usr", "packages.exclude[0]: glob"},
		"keep":               {"keep: [/usr/share/doc/*", "keep: [\"/usr/[a-z]\"", "image.yaml:"},
		"user":               {"{name: _rpc", "{name: \"a:b\"", `users[0].name: got "a:b"`},
		"root's number":      {"uid: 100", "uid: 0", "users[0].uid: got 0, want a number from 1 to 65535"},
		"home":               {"gid: 65534}", `gid: 65534, home: "/a:b"}`, `users[0].home: got "/a:b"`},
		"group":              {"environment:", "groups: [{name: UPPER, gid: 5}]\nenvironment:", `groups[0]: got "UPPER"`},
		"group's number":     {"environment:", "groups: [{name: x, gid: -1}]\nenvironment:", "groups[0].gid: got -1"},
		"mode":               {"environment:", "directories: [{path: /x, mode: \"9\"}]\nenvironment:", `directories[0]: mode: got "9"`},
		"owner":              {"environment:", "directories: [{path: /x, user: \"A b\"}]\nenvironment:", `directories[0]: owner: got "A b"`},
		"copy and content":   {"environment:", "files: [{path: /x, copy: /y, content: z}]\nenvironment:", "files[0]: want only one of copy and content"},
		"copy of a relative": {"environment:", "files: [{path: /x, copy: y}]\nenvironment:", "files[0]: copy: got"},
		"link to nothing":    {"environment:", "links: [{path: /x, target: \"\"}]\nenvironment:", "links[0].target: got"},
		"link and file":      {"environment:", "files: [{path: /x}]\nlinks: [{path: /X, target: y}]\nenvironment:", "links[0].path: /X collides with files[0].path"},
		"alternative's name": {"- name: iptables\n", "- name: ../x\n", "alternatives[0]: name: got"},
		"alternative's link": {"link: /usr/sbin/iptables", "link: iptables", "alternatives[0]: link: got"},
		"alternative twice":  {"environment:", "- {name: iptables, link: /usr/sbin/iptables, path: /usr/sbin/iptables-nft}\nenvironment:", "alternatives[1]: /usr/sbin/iptables-nft for iptables is given twice"},
		"slave":              {"  priority: 20\n", "  priority: 20\n  slaves: [{name: x, link: y, path: /z}]\n", "alternatives[0].slaves[0]: link: got"},
		"variable":           {"{PATH:", "{\"A=B\": x, PATH:", `environment: got "A=B"`},
		"workdir":            {"entrypoint:", "workdir: tmp\nentrypoint:", "workdir: got"},
		"label":              {"{maintainer: nobody}", `{"a b": c}`, `labels: got "a b"`},
		"nothing to run":     {"entrypoint: [/usr/local/bin/kubelet]\n", "", "entrypoint: none given, and no cmd"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(spec, tt.old, tt.new, 1)
			if text == spec {
				t.Fatalf("the spec has no %q", tt.old)
			}
			_, err := load(t, text)
			var se *strict.Error
			if !errors.As(err, &se) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
		})
	}
}

// B09: what lies beside the spec is read, and nothing that a link leads to.
func TestLinksOutOfTheDirectoryAreNotFollowed(t *testing.T) {
	outside := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(outside, []byte("secret"), 0o600))
	for _, name := range []string{"archive.gpg", build.SpecFile, build.LockFile} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			must(t, os.WriteFile(filepath.Join(dir, build.SpecFile), []byte(spec), 0o644))
			must(t, os.WriteFile(filepath.Join(dir, "archive.gpg"), []byte("key"), 0o644))
			if _, err := build.LoadSpec(dir); err != nil {
				t.Fatal(err)
			}
			os.Remove(filepath.Join(dir, name))
			must(t, os.Symlink(outside, filepath.Join(dir, name)))
			_, err := build.LoadSpec(dir)
			if name == build.LockFile {
				_, err = build.LoadLock(dir)
			}
			if err == nil || strings.Contains(err.Error(), "invalid") || !strings.Contains(err.Error(), "escapes") {
				t.Errorf("got %v, want the link refused", err)
			}
		})
	}
}

func TestOnlyWhatALockAnswersIsTheQuestion(t *testing.T) {
	s, err := load(t, spec)
	must(t, err)
	for name, tt := range map[string]struct {
		old, new string
		same     bool
	}{
		"order of packages":  {"[ca-certificates, iptables, tool-static]", "[tool-static, iptables, ca-certificates]", true},
		"order of platforms": {"[linux/arm64, linux/amd64]", "[linux/amd64, linux/arm64]", true},
		"a comment":          {"platforms:", "# all\nplatforms:", true},
		"environment":        {"C.UTF-8", "C", true},
		"where a file goes":  {"/usr/local/bin/kubectl}", "/usr/bin/kubectl}", true},
		"version":            {"v1.36.2", "v1.36.3", false},
		"platforms":          {"[linux/arm64, linux/amd64]", "[linux/amd64]", false},
		"packages":           {", tool-static]", "]", false},
		"suite":              {"trixie", "forky", false},
		"file":               {"name: kubectl", "name: kubeadm", false},
	} {
		other, err := load(t, strings.Replace(spec, tt.old, tt.new, 1))
		must(t, err)
		if same := other.Question() == s.Question(); same != tt.same {
			t.Errorf("%s: the same question: %v, want %v", name, same, tt.same)
		}
	}
}

// B10: SOURCE_DATE_EPOCH is seconds or an error, never something near.
func TestParseEpoch(t *testing.T) {
	for in, want := range map[string]int64{"0": 0, "1760000000": 1760000000, "8589934591": 8589934591} {
		got, err := build.ParseEpoch(in)
		if err != nil || got.Unix() != want || got.Location() != time.UTC {
			t.Errorf("%s: got %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "-1", "+1", "01", " 1", "1.5", "1e9", "0x10", "8589934592", "99999999999999999999", "2026-07-01", "now", "1_000"} {
		if got, err := build.ParseEpoch(in); err == nil || !strings.HasPrefix(err.Error(), "SOURCE_DATE_EPOCH: got ") {
			t.Errorf("%q: got %v, %v, want it refused", in, got, err)
		}
	}
}

func FuzzParseEpoch(f *testing.F) {
	f.Add("0")
	f.Add("-1")
	f.Fuzz(func(t *testing.T, s string) {
		if at, err := build.ParseEpoch(s); err == nil && (at.Unix() < 0 || at.Year() > 2300) {
			t.Errorf("%q gives %v", s, at)
		}
	})
}
