package deb_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
)

// archive returns a client of d whose clock stands at the moment d was made.
func archive(t *testing.T, d *imgtest.Debian) *deb.Archive {
	t.Helper()
	return &deb.Archive{
		Download: &download.Client{
			Cache: t.TempDir(),
			Wait:  func(context.Context, time.Duration) error { return nil }, // no pause between tries
		},
		Base:    d.URL,
		Keyring: d.Keyring,
		Now:     func() time.Time { return d.Date },
	}
}

func names(all []deb.Package) []string {
	var s []string
	for _, p := range all {
		s = append(s, p.Name)
	}
	return s
}

func TestSuiteLeadsFromSignatureToFiles(t *testing.T) {
	d := imgtest.SmallDebian(t)
	a := archive(t, d)
	for _, name := range []string{"trixie", "stable"} {
		s, err := a.Suite(t.Context(), name, "amd64", "arm64")
		if err != nil {
			t.Fatal(err)
		}
		if s.Name != "stable" || s.Codename != "trixie" || !s.Date.Equal(d.Date) || len(s.InRelease) != 64 {
			t.Errorf("got %+v", s)
		}
		for _, arch := range []string{"amd64", "arm64"} {
			got, err := s.Packages[arch].Closure(imgtest.SmallInstall())
			if err != nil {
				t.Fatal(err)
			}
			want := []string{"base-files", "base-passwd", "ca-certificates", "dpkg", "iptables", "libc-bin", "libc6", "libxtables12", "mawk", "tool-static"}
			if diff := cmp.Diff(want, names(got)); diff != "" {
				t.Errorf("closure of %s (-want +got):\n%s", arch, diff)
			}
			var files []deb.File
			for _, p := range got {
				files = append(files, p.File())
			}
			paths, err := a.FetchAll(t.Context(), 3, files...)
			if err != nil {
				t.Fatal(err)
			}
			for i, p := range paths {
				if filepath.Base(p) != files[i].SHA256 {
					t.Errorf("%s is at %s", files[i].Filename, p)
				}
				if err := deb.Unpack(p, func(deb.Member) error { return nil }); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

func TestPackageFieldsAreThoseOfTheIndex(t *testing.T) {
	d := imgtest.SmallDebian(t)
	s, err := archive(t, d).Suite(t.Context(), "trixie", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	p, ok := s.Packages["amd64"].Lookup("tool-static")
	if !ok {
		t.Fatal("not found")
	}
	if p.Version != "1:2.0~rc1-1+b1" || p.Source != "tool" || p.SourceVersion != "1:2.0~rc1-1" || p.Arch != "all" ||
		p.Filename != "pool/main/t/tool-static/tool-static_2.0~rc1-1+b1_all.deb" || p.Size == 0 || p.Essential {
		t.Errorf("got %+v", p)
	}
	if b, _ := s.Packages["amd64"].Lookup("base-files"); b.Source != "base-files" || b.SourceVersion != "13.8" || !b.Essential || b.Priority != "required" {
		t.Errorf("got %+v", b)
	}
	if _, ok := s.Packages["amd64"].Lookup("awk"); ok {
		t.Error("a virtual package was found as a real one")
	}
}

func TestIndexIsAskedForByItsDigestFirst(t *testing.T) {
	for _, byHash := range []bool{true, false} {
		d := imgtest.SmallDebian(t)
		d.NoByHash = !byHash
		d.Publish(t)
		if _, err := archive(t, d).Suite(t.Context(), "trixie", "amd64"); err != nil {
			t.Fatal(err)
		}
		got := slices.ContainsFunc(d.Requests(), func(p string) bool { return strings.Contains(p, "/by-hash/SHA256/") })
		if got != byHash {
			t.Errorf("by-hash offered: %t, requests: %v", byHash, d.Requests())
		}
	}
}

// A mirror in the middle of an update has the new index under the plain name.
func TestIndexOfAMirrorInTheMiddleOfAnUpdateIsFound(t *testing.T) {
	d := imgtest.SmallDebian(t)
	d.Tamper(t, "dists/trixie/main/binary-amd64/Packages.xz")
	if _, err := archive(t, d).Suite(t.Context(), "trixie", "amd64"); err != nil {
		t.Error(err)
	}
}

func TestIndexOfAMirrorWithoutByHashFilesIsFound(t *testing.T) {
	d := imgtest.SmallDebian(t)
	for _, p := range d.Paths("/by-hash/") {
		d.Drop(t, p)
	}
	if _, err := archive(t, d).Suite(t.Context(), "trixie", "amd64"); err != nil {
		t.Error(err)
	}
}

func TestSuiteRefusesWhatTheArchiveDidNotSign(t *testing.T) {
	tests := []struct {
		name  string
		spoil func(t *testing.T, d *imgtest.Debian)
		want  string
	}{
		{"other key", func(t *testing.T, d *imgtest.Debian) {
			d.PublishSigned(t, imgtest.NewDebianKey(t, d.Date.AddDate(-1, 0, 0), 0))
		}, "is not in the keyring"},
		{"one bit of the text", func(t *testing.T, d *imgtest.Debian) {
			d.Edit(t, "dists/trixie/InRelease", func(b []byte) []byte {
				return []byte(strings.Replace(string(b), "Codename: trixie", "Codename: trixif", 1))
			})
		}, "signature of InRelease"},
		{"unsigned text before", func(t *testing.T, d *imgtest.Debian) {
			d.Edit(t, "dists/trixie/InRelease", func(b []byte) []byte { return append([]byte("Suite: evil\n\n"), b...) })
		}, "starts with"},
		{"unsigned text after", func(t *testing.T, d *imgtest.Debian) {
			d.Edit(t, "dists/trixie/InRelease", func(b []byte) []byte { return append(b, "Suite: evil\n"...) })
		}, "after the end of the signature"},
		{"no signature", func(t *testing.T, d *imgtest.Debian) {
			d.Edit(t, "dists/trixie/InRelease", func(b []byte) []byte { return []byte("Suite: stable\nCodename: trixie\n") })
		}, "starts with"},
		{"cut", func(t *testing.T, d *imgtest.Debian) {
			d.Edit(t, "dists/trixie/InRelease", func(b []byte) []byte { return b[:len(b)*2/3] })
		}, "not a complete clear-signed message"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := imgtest.SmallDebian(t)
			tt.spoil(t, d)
			_, err := archive(t, d).Suite(t.Context(), "trixie", "amd64")
			var se *deb.SignatureError
			if !errors.As(err, &se) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want a *SignatureError with %q", err, tt.want)
			}
			for _, p := range d.Requests() {
				if strings.Contains(p, "Packages") {
					t.Errorf("asked for %s after a bad signature", p)
				}
			}
		})
	}
}

func TestKeysDecide(t *testing.T) {
	d := imgtest.SmallDebian(t)
	born := d.Date.AddDate(-2, 0, 0)
	good := imgtest.NewDebianKey(t, born, 0)
	other := imgtest.NewDebianKey(t, born, 0)
	expiredSince := imgtest.NewDebianKey(t, born, 3*365*24*time.Hour) // a year after d.Date
	expiredBefore := imgtest.NewDebianKey(t, born, 24*time.Hour)
	later := func() time.Time { return d.Date.AddDate(5, 0, 0) }
	tests := []struct {
		name    string
		keyring *imgtest.DebianKey
		signers []*imgtest.DebianKey
		now     func() time.Time
		ok      bool
	}{
		{"one signature of one key", good, []*imgtest.DebianKey{good}, nil, true},
		{"an unknown signature before", good, []*imgtest.DebianKey{other, good}, nil, true},
		{"an unknown signature after", good, []*imgtest.DebianKey{good, other}, nil, true},
		{"only unknown signatures", good, []*imgtest.DebianKey{other, expiredSince}, nil, false},
		{"a key that has expired since", expiredSince, []*imgtest.DebianKey{expiredSince}, later, true},
		{"a key that had expired", expiredBefore, []*imgtest.DebianKey{expiredBefore}, nil, false},
		{"a signature from the future", good, []*imgtest.DebianKey{good}, func() time.Time { return d.Date.Add(-time.Hour) }, false},
		{"a clock slightly behind", good, []*imgtest.DebianKey{good}, func() time.Time { return d.Date.Add(-time.Minute) }, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d.PublishSigned(t, tt.signers...)
			a := archive(t, d)
			a.Keyring = tt.keyring.Public(t)
			if tt.now != nil {
				a.Now = tt.now
			}
			_, err := a.Suite(t.Context(), "trixie", "amd64")
			if (err == nil) != tt.ok {
				t.Errorf("got %v, want accepted: %t", err, tt.ok)
			}
		})
	}
}

func TestEmptyKeyringAcceptsNothing(t *testing.T) {
	d := imgtest.SmallDebian(t)
	for name, keyring := range map[string][]byte{"none": nil, "not a keyring": []byte("hello"), "armor of nothing": []byte("-----BEGIN PGP PUBLIC KEY BLOCK-----\n\n=twTO\n-----END PGP PUBLIC KEY BLOCK-----\n")} {
		a := archive(t, d)
		a.Keyring = keyring
		if _, err := a.Suite(t.Context(), "trixie", "amd64"); err == nil || !strings.Contains(err.Error(), "keyring") {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestExpiredReleaseNeedsAnUnsafeField(t *testing.T) {
	d := imgtest.SmallDebian(t)
	d.ValidUntil = d.Date.Add(7 * 24 * time.Hour)
	d.Publish(t)
	a := archive(t, d)
	if _, err := a.Suite(t.Context(), "trixie", "amd64"); err != nil {
		t.Fatalf("before it expires: %v", err)
	}
	a.Now = func() time.Time { return d.ValidUntil.Add(time.Second) }
	_, err := a.Suite(t.Context(), "trixie", "amd64")
	var ee *deb.ExpiredError
	if !errors.As(err, &ee) || !ee.ValidUntil.Equal(d.ValidUntil) || !strings.Contains(err.Error(), "expired") {
		t.Fatalf("got %v, want an *ExpiredError", err)
	}
	a.UnsafeExpired = true
	if _, err := a.Suite(t.Context(), "trixie", "amd64"); err != nil {
		t.Errorf("with UnsafeExpired: %v", err)
	}
}

func TestSuiteIsWhatWasAskedFor(t *testing.T) {
	d := imgtest.SmallDebian(t)
	sid := imgtest.NewDebian(t)
	sid.Codename, sid.Suite = "trixie", "trixie" // so that it is served as trixie …
	sid.EditRelease = func(s string) string {    // … but says what it is
		return strings.NewReplacer("Codename: trixie", "Codename: sid", "Suite: trixie", "Suite: unstable").Replace(s)
	}
	sid.Publish(t)
	var m *download.Mismatch
	if _, err := archive(t, sid).Suite(t.Context(), "trixie", "amd64"); !errors.As(err, &m) || m.What != "suite" || m.Want != "trixie" {
		t.Errorf("another suite under the name: got %v", err)
	}
	if _, err := archive(t, d).Suite(t.Context(), "trixie", "riscv64"); !errors.As(err, &m) || m.What != "architectures" {
		t.Errorf("an architecture that it has not: got %v", err)
	}
	for _, bad := range []string{"", "../trixie", "trixie/updates", "Trixie", "trixie?x"} {
		if _, err := archive(t, d).Suite(t.Context(), bad, "amd64"); err == nil || !strings.Contains(err.Error(), "not the name of a suite") {
			t.Errorf("suite %q: got %v", bad, err)
		}
	}
	for _, bad := range []string{"", "all", "../amd64", "AMD64"} {
		if _, err := archive(t, d).Suite(t.Context(), "trixie", bad); err == nil || !strings.Contains(err.Error(), "not an architecture") {
			t.Errorf("architecture %q: got %v", bad, err)
		}
	}
}

func TestTamperedFilesAreMismatches(t *testing.T) {
	d := imgtest.SmallDebian(t)
	for _, p := range d.Paths("binary-amd64/") {
		d.Tamper(t, p)
	}
	var m *download.Mismatch
	if _, err := archive(t, d).Suite(t.Context(), "trixie", "amd64"); !errors.As(err, &m) || m.What != "sha256" {
		t.Errorf("index: got %v, want a *download.Mismatch", err)
	}

	d.Publish(t)
	a := archive(t, d)
	s, err := a.Suite(t.Context(), "trixie", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	p, _ := s.Packages["amd64"].Lookup("iptables")
	d.Tamper(t, p.Filename)
	if _, err := a.FetchAll(t.Context(), 0, p.File()); !errors.As(err, &m) {
		t.Errorf("package: got %v, want a *download.Mismatch", err)
	}
	d.Drop(t, p.Filename)
	if _, err := a.FetchAll(t.Context(), 0, p.File()); !download.NotFound(err) {
		t.Errorf("missing package: got %v, want not found", err)
	}
}

func TestFetchNeedsADigestAndAPlainName(t *testing.T) {
	d := imgtest.SmallDebian(t)
	a := archive(t, d)
	if _, err := a.Fetch(t.Context(), deb.File{Filename: "pool/main/x.deb", Size: 3}); err == nil || !strings.Contains(err.Error(), "no digest") {
		t.Errorf("without a digest: got %v", err)
	}
	for _, bad := range []string{"", ".", "/etc/passwd", "../x", "pool/../../x", "pool//x", "pool/x?y", "pool/x#y", "http://evil.invalid/x", "pool/%2e%2e/x", "pool/x\n"} {
		if _, err := a.Fetch(t.Context(), deb.File{Filename: bad, SHA256: strings.Repeat("0", 64)}); err == nil || !strings.Contains(err.Error(), "file name") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	if got := d.Requests(); len(got) > 0 {
		t.Errorf("requests were sent: %v", got)
	}
}

func TestBaseMustBeAnHTTPAddress(t *testing.T) {
	d := imgtest.SmallDebian(t)
	for _, bad := range []string{"ftp://ftp.debian.org/debian", "file:///srv/debian", "debian", "http://", "https:///debian", "://"} {
		a := archive(t, d)
		a.Base = bad
		if _, err := a.Suite(t.Context(), "trixie", "amd64"); err == nil || !strings.Contains(err.Error(), "want an http or https URL") {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	a := archive(t, d)
	a.Base += "/" // as many people write it
	if _, err := a.Suite(t.Context(), "trixie", "amd64"); err != nil {
		t.Error(err)
	}
}

func TestArchiveThatCannotBeAskedIsUnreachable(t *testing.T) {
	d := imgtest.SmallDebian(t)
	a := archive(t, d)
	a.Download.Offline = true
	if _, err := a.Suite(t.Context(), "trixie", "amd64"); !download.Unreachable(err) {
		t.Errorf("got %v, want unreachable", err)
	}
}

func TestIndexThatLiesInsideASignedReleaseIsRefused(t *testing.T) {
	for name, tt := range map[string]struct{ old, new, want string }{
		"path out of the archive": {"Filename: pool/", "Filename: ../pool/", "file name"},
		"other architecture":      {"Architecture: amd64", "Architecture: i386", "Architecture"},
		"bad digest":              {"SHA256: ", "SHA256: zz", "SHA256"},
		"bad size":                {"Size: ", "Size: -", "Size"},
		"bad version":             {"Version: 2.41-12", "Version: 2.41-", "version"},
		"bad name":                {"Package: libc6", "Package: LIBC6", "not a package name"},
		"bad provides":            {"Provides: awk", "Provides: awk (1)", "Provides"},
		"field twice":             {"Package: libc6", "Version: 3\nPackage: libc6", "given twice"},
	} {
		t.Run(name, func(t *testing.T) {
			d := imgtest.SmallDebian(t)
			d.EditIndex = func(arch, index string) string {
				if arch != "amd64" {
					return index
				}
				if !strings.Contains(index, tt.old) {
					t.Fatalf("no %q in the index", tt.old)
				}
				return strings.ReplaceAll(index, tt.old, tt.new)
			}
			d.Publish(t)
			_, err := archive(t, d).Suite(t.Context(), "trixie", "amd64")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// The keyring that is shipped with the kubelet image is whole and has Debian 13's keys.
func TestShippedKeyringIsReadable(t *testing.T) {
	data, err := os.ReadFile("../../images/kubelet/debian-archive-keyring.gpg")
	if err != nil {
		t.Fatal(err)
	}
	d := imgtest.SmallDebian(t)
	a := archive(t, d)
	a.Keyring = data
	_, err = a.Suite(t.Context(), "trixie", "amd64")
	var se *deb.SignatureError
	if !errors.As(err, &se) || !strings.Contains(err.Error(), "is not in the keyring") {
		t.Errorf("got %v, want it to be read, and the test archive's key not to be in it", err)
	}
}
