package build_test

import (
	"bytes"
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/upstream"
)

func TestALockNamesEveryInputExactly(t *testing.T) {
	w := newWorld(t)
	l := w.lock(t, nil)
	if !l.Created.Equal(w.debian.Date) || l.Upstream[0].Version != version || l.Debian.Suites[0].Codename != "trixie" || l.Debian.Suites[0].Suite != "trixie" {
		t.Errorf("got %+v", l)
	}
	for _, p := range []string{"linux/amd64", "linux/arm64"} {
		pins := l.Upstream[0].Files[p]
		if len(pins) != 2 || pins[0].Path >= pins[1].Path {
			t.Fatalf("%s: got %+v, want the kubectl binary and the tarball", p, pins)
		}
		for _, pin := range pins {
			if pin.Size == 0 || pin.SHA256 == "" || pin.SHA512 == "" || pin.Evidence == nil {
				t.Errorf("%s: incomplete pin %+v", p, pin)
			}
		}
		names := ""
		for _, pkg := range l.Debian.Packages["default"][p] {
			names += pkg.Name + " "
		}
		if names != "base-files base-passwd ca-certificates dpkg iptables libc-bin libc6 libxtables12 mawk tool-static " {
			t.Errorf("%s: got %s", p, names)
		}
	}
}

func TestTheSameAnswersGiveTheSameLock(t *testing.T) {
	w := newWorld(t)
	l := w.lock(t, nil)
	first, err := os.ReadFile(filepath.Join(w.dir, build.LockFile))
	must(t, err)
	w.cache = t.TempDir()
	w.lock(t, nil)
	w.lock(t, l)
	again, err := os.ReadFile(filepath.Join(w.dir, build.LockFile))
	must(t, err)
	if !bytes.Equal(first, again) || !bytes.HasSuffix(first, []byte("}\n")) {
		t.Error("the lock changed")
	}
	read, err := build.LoadLock(w.dir)
	must(t, err)
	if rewritten, err := read.Bytes(); err != nil || !bytes.Equal(rewritten, first) {
		t.Errorf("what was read is written in another way: %v\n%s", err, cmp.Diff(l, read))
	}
	if bytes.Contains(first, []byte(w.debian.URL)) || bytes.Contains(first, []byte("127.0.0.1")) {
		t.Error("the lock names a host")
	}
}

func TestPinsOfTheSameVersionAreKept(t *testing.T) {
	w := newWorld(t)
	w.edit(t, "versions: [v1.36.2]", "versions: [v1.36.2]\n  require: [pin]")
	l := w.lock(t, nil)
	for p, pins := range l.Upstream[0].Files {
		for i, pin := range pins {
			l.Upstream[0].Files[p][i] = upstream.Pin{Path: pin.Path, SHA512: pin.SHA512}
		}
	}
	w.kube.Requests()
	kept := w.lock(t, l)
	if diff := cmp.Diff(l.Upstream, kept.Upstream); diff != "" || len(w.kube.Requests()) > 0 {
		t.Errorf("a pin that was enough was not kept:\n%s", diff)
	}

	w.edit(t) // signature required
	completed := w.lock(t, l)
	for p, pins := range completed.Upstream[0].Files {
		for i, pin := range pins {
			if pin.Evidence == nil || pin.SHA512 != l.Upstream[0].Files[p][i].SHA512 {
				t.Errorf("got %+v, want the evidence with the digest that was there", pin)
			}
		}
	}

	w.cache = t.TempDir()
	for path := range strings.FieldsSeq(upstream.NodeTarball(version, "amd64") + " " + upstream.NodeTarball(version, "arm64")) {
		w.kube.Status(path, http.StatusServiceUnavailable)
	}
	withoutAnswer := w.lock(t, l)
	if diff := cmp.Diff(l.Upstream[0].Files["linux/amd64"][1], withoutAnswer.Upstream[0].Files["linux/amd64"][1]); diff != "" {
		t.Errorf("a pin changed although nobody could be asked:\n%s", diff)
	}
}

func TestAWrongPinIsNotReplacedByWhatArrives(t *testing.T) {
	w := newWorld(t)
	l := w.lock(t, nil)
	pin := &l.Upstream[0].Files["linux/amd64"][0]
	pin.SHA512, pin.SHA256, pin.Size, pin.Evidence = strings.Repeat("0", 128), "", 0, nil
	_, err := (&build.Locker{Upstream: w.upstream(), Debian: w.archives()}).Lock(t.Context(), w.spec(t), l)
	if err == nil || !strings.Contains(err.Error(), "sha512") {
		t.Errorf("got %v, want a mismatch", err)
	}
}

func TestAChannelIsResolvedOnce(t *testing.T) {
	w := newWorld(t)
	w.edit(t, "versions: [v1.36.2]", "versions: [stable-1.36]")
	if l := w.lock(t, nil); l.Upstream[0].Version != version {
		t.Errorf("got %s, want %s", l.Upstream[0].Version, version)
	}
	w.mustBuild(t)
}

func TestAnArchiveThatIsNotSignedIsNotLocked(t *testing.T) {
	w := newWorld(t)
	w.write(t, "archive.gpg", string(newWorld(t).debian.Keyring))
	_, err := (&build.Locker{Upstream: w.upstream(), Debian: build.Archives{"debian": {Download: w.download(), Base: w.debian.URL, Keyring: w.spec(t).Keyring()}}}).Lock(t.Context(), w.spec(t), nil)
	var signature *deb.SignatureError
	if !errors.As(err, &signature) || !strings.HasPrefix(err.Error(), "lock "+w.dir+": ") {
		t.Errorf("got %v, want a SignatureError", err)
	}
}

func TestAStaleLockSaysWhatToRun(t *testing.T) {
	w := newWorld(t)
	_, err := build.LoadLock(w.dir)
	var stale *build.StaleError
	if !errors.As(err, &stale) || !strings.HasSuffix(err.Error(), "image.lock.json: missing") || stale.Hint() != "imgctl lock "+w.dir {
		t.Errorf("got %v", err)
	}
	if _, err := build.LoadLock(filepath.Join(w.dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist for a directory that is not there", err)
	}
	l := w.lock(t, nil)
	for name, pairs := range map[string][]string{
		"version":  {"versions: [v1.36.2]", "versions: [v1.36.3]"},
		"packages": {"tool-static]", "tool-static, jq]"},
		"platform": {"[linux/arm64, linux/amd64]", "[linux/arm64]"},
	} {
		w.edit(t, pairs...)
		if _, err := w.build(t); !errors.As(err, &stale) || stale.Hint() != "imgctl lock "+w.dir {
			t.Errorf("%s: got %v, want a StaleError", name, err)
		}
	}
	w.edit(t)
	delete(l.Upstream[0].Files, "linux/arm64")
	if err := l.Check(w.spec(t)); !errors.As(err, &stale) || !strings.Contains(err.Error(), "for linux/arm64") {
		t.Errorf("got %v, want the platform without files named", err)
	}
	delete(l.Debian.Packages["default"], "linux/amd64")
	if err := l.Check(w.spec(t)); !errors.As(err, &stale) || !strings.Contains(err.Error(), "no packages for v1.36.2 linux/amd64") {
		t.Errorf("got %v, want the platform without packages named", err)
	}
}

// C02 for the lock: it is written by imgctl, and nothing else is believed to be one.
func TestALockThatCouldBeMisreadIsRefused(t *testing.T) {
	w := newWorld(t)
	w.lock(t, nil)
	good, err := os.ReadFile(filepath.Join(w.dir, build.LockFile))
	must(t, err)
	for name, tt := range map[string]struct{ old, new, want string }{
		"unknown key":      {`"created"`, `"craeted"`, `unknown field "craeted"`},
		"duplicate key":    {`"kind": "ImageLock",`, `"kind": "ImageLock", "Kind": "x",`, `image.lock.json:3:30: key "Kind" is given twice`},
		"other kind":       {"ImageLock", "Image", `kind: got "Image", want "ImageLock"`},
		"other version":    {"imgctl.dev/v1", "imgctl.dev/v9", `apiVersion: got "imgctl.dev/v9"`},
		"wrong type":       {`"size": [0-9]+`, `"size": "1"`, "image.lock.json:"},
		"not JSON":         {`"created"`, `created`, "image.lock.json:4:"},
		"something more":   {`\}\n$`, "} {}\n", "something follows the document"},
		"package's digest": {`"sha256": "[0-9a-f]+",\n +"source"`, `"sha256": "00", "source"`, `sha256: got "00"`},
		"package's path":   {`"path": "pool/`, `"path": "../pool/`, "debian.packages[default][linux/amd64][0]: path: got"},
		"package's size":   {`_all.deb",\n +"size": [0-9]+`, `_all.deb", "size": 0`, "size: got 0"},
		"order":            {`"name": "base-passwd"`, `"name": "aaa"`, "aaa after base-files, want each once and sorted"},
		"pin's path":       {`"path": "release/`, `"path": "/release/`, "upstream[0].files[linux/amd64][0]: path: got"},
		"pin's sha512":     {`"sha512": "[0-9a-f]+"`, `"sha512": "00"`, `sha512: got "00"`},
		"pin's sha256":     {`"sha256": "[0-9a-f]+",\n +"sha512"`, `"sha256": "00", "sha512"`, `sha256: got "00"`},
		"pin's size":       {`"size": [0-9]+`, `"size": -1`, "size: got -1"},
		"time":             {`"created": "[^"]+"`, `"created": "1960-01-01T00:00:00Z"`, "created: got"},
		"InRelease":        {`"inRelease": "[^"]+"`, `"inRelease": ""`, "debian.suites[0].inRelease: got"},
		"nested":           {`"members"|"created": "[^"]+"`, `"created": ` + strings.Repeat("[", 40) + strings.Repeat("]", 40), "nested too deeply"},
	} {
		t.Run(name, func(t *testing.T) {
			place := regexp.MustCompile(tt.old).FindIndex(good)
			if place == nil {
				t.Fatalf("the lock has no %s", tt.old)
			}
			w.write(t, build.LockFile, string(good[:place[0]])+tt.new+string(good[place[1]:]))
			_, err := build.LoadLock(w.dir)
			var se *strict.Error
			if !errors.As(err, &se) || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
		})
	}
	w.write(t, build.LockFile, string(good))
	if _, err := build.LoadLock(w.dir); err != nil {
		t.Error(err)
	}
}

// The repository's own image can be built from what is checked in.
func TestTheRepositorysLockAnswersItsSpec(t *testing.T) {
	dir := filepath.Join("..", "..", "images", "kubelet")
	s, err := build.LoadSpec(dir)
	must(t, err)
	l, err := build.LoadLock(dir)
	must(t, err)
	must(t, l.Check(s))
	data, err := l.Bytes()
	must(t, err)
	file, err := os.ReadFile(filepath.Join(dir, build.LockFile))
	must(t, err)
	if !bytes.Equal(data, file) {
		t.Error("the lock is not written as imgctl writes it")
	}
	if l.Created.After(time.Now().AddDate(1, 0, 0)) {
		t.Errorf("created %v", l.Created)
	}
}
