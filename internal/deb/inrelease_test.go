package deb

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"
)

// Debian 13.7, as Debian published it.
var released = time.Date(2026, 9, 12, 7, 55, 41, 0, time.UTC)

// realInRelease returns what Debian published for a suite, and its keys.
func realInRelease(t testing.TB, suite string) (inRelease, keyring []byte) {
	t.Helper()
	f, err := os.Open("testdata/" + suite + ".InRelease.xz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := decompress(f, ".xz", maxInRelease)
	if err != nil {
		t.Fatal(err)
	}
	inRelease, err = io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	keyring, err = os.ReadFile("../../images/kubelet/debian-archive-keyring.gpg")
	if err != nil {
		t.Fatal(err)
	}
	return inRelease, keyring
}

func TestDebiansOwnReleaseIsAccepted(t *testing.T) {
	data, keyringData := realInRelease(t, "trixie")
	keyring, err := readKeyring(keyringData)
	if err != nil {
		t.Fatal(err)
	}
	now := released.AddDate(0, 0, 10)
	text, err := openInRelease(data, keyring, now)
	if err != nil {
		t.Fatal(err)
	}
	r, err := parseRelease(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.check("trixie", []string{"amd64", "arm64"}); err != nil {
		t.Error(err)
	}
	if err := r.checkDates(now, false); err != nil {
		t.Error(err)
	}
	want := indexFile{Size: 9678380, SHA256: r.Files["main/binary-amd64/Packages.xz"].SHA256}
	if r.Suite != "stable" || r.Codename != "trixie" || !r.Date.Equal(released) || !r.ByHash || r.Files["main/binary-amd64/Packages.xz"] != want {
		t.Errorf("got %s %s %s %t %+v", r.Suite, r.Codename, r.Date, r.ByHash, r.Files["main/binary-amd64/Packages.xz"])
	}
}

// The keyring beside the kubelet's image.yaml holds for all the suites that an
// image is made of, and each says of itself what it is.
func TestDebiansUpdatesAndSecurityAreAccepted(t *testing.T) {
	for _, tt := range []struct {
		suite, published string
		date             time.Time
	}{
		{"trixie-updates", "stable-updates", time.Date(2026, 11, 20, 2, 11, 10, 0, time.UTC)},
		{"trixie-security", "stable-security", time.Date(2026, 11, 20, 0, 12, 42, 0, time.UTC)},
	} {
		t.Run(tt.suite, func(t *testing.T) {
			data, keyringData := realInRelease(t, tt.suite)
			keyring, err := readKeyring(keyringData)
			if err != nil {
				t.Fatal(err)
			}
			text, err := openInRelease(data, keyring, tt.date.Add(time.Hour))
			if err != nil {
				t.Fatal(err)
			}
			r, err := parseRelease(text)
			if err != nil {
				t.Fatal(err)
			}
			if !r.Date.Equal(tt.date) || !r.ValidUntil.Equal(tt.date.AddDate(0, 0, 7)) || !r.ByHash || r.Files["main/binary-arm64/Packages.xz"].Size == 0 {
				t.Errorf("got %s until %s, by hash %t, %+v", r.Date, r.ValidUntil, r.ByHash, r.Files["main/binary-arm64/Packages.xz"])
			}
			for _, name := range []string{tt.suite, tt.published} {
				if err := r.check(name, []string{"amd64", "arm64"}); err != nil {
					t.Error(err)
				}
			}
			for _, name := range []string{"trixie", "bookworm-security", "security"} {
				if err := r.check(name, []string{"amd64"}); err == nil {
					t.Errorf("accepted as %s", name)
				}
			}
			if err := r.checkDates(tt.date.AddDate(0, 0, 7), false); err != nil {
				t.Error(err)
			}
			var expired *ExpiredError
			if err := r.checkDates(tt.date.AddDate(0, 0, 7).Add(time.Second), false); !errors.As(err, &expired) {
				t.Errorf("a week and a second later: got %v", err)
			}
		})
	}
}

func TestDebiansOwnReleaseIsRefusedWhenOneByteDiffers(t *testing.T) {
	data, keyringData := realInRelease(t, "trixie")
	keyring, err := readKeyring(keyringData)
	if err != nil {
		t.Fatal(err)
	}
	end := bytes.Index(data, []byte("-----BEGIN PGP SIGNATURE-----"))
	for i := 60; i < end-1; i += end / 20 {
		bad := bytes.Clone(data)
		if bad[i] == '\n' {
			continue
		}
		bad[i] ^= 1
		_, err := openInRelease(bad, keyring, released.AddDate(0, 0, 10))
		var se *SignatureError
		if !errors.As(err, &se) {
			t.Errorf("byte %d (%q): got %v, want a *SignatureError", i, data[i], err)
		}
	}
}

func TestReleaseThatIsNoneIsRefused(t *testing.T) {
	const good = "Suite: stable\nCodename: trixie\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nArchitectures: amd64\nComponents: main\nSHA256:\n " +
		"0000000000000000000000000000000000000000000000000000000000000000 77 main/binary-amd64/Packages.xz\n"
	if _, err := parseRelease([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ old, new, want string }{
		"no date":              {"Date: Sat, 12 Sep 2026 07:55:41 UTC\n", "", "Date"},
		"date in another zone": {"07:55:41 UTC", "07:55:41 CET", "Date"},
		"date without a day":   {"Sat, 12 Sep 2026 07:55:41 UTC", "2026-09-12", "Date"},
		"bad end":              {"Suite:", "Valid-Until: soon\nSuite:", "Valid-Until"},
		"no file":              {"SHA256:\n 0", "SHA512:\n 0", "no file is listed"},
		"short digest":         {" 0000", " 000", "want digest, size and path"},
		"upper-case digest":    {" 0000", " A000", "want digest, size and path"},
		"path out":             {"main/binary", "../binary", "want digest, size and path"},
		"negative size":        {" 77 ", " -77 ", "size"},
		"endless size":         {" 77 ", " 99999999999999999999 ", "size"},
		"one more word":        {" 77 ", " 77 x ", "want digest, size and path"},
		"contradiction":        {"SHA256:\n", "SHA256:\n 1000000000000000000000000000000000000000000000000000000000000000 77 main/binary-amd64/Packages.xz\n", "listed twice"},
		"second stanza":        {"Codename: trixie\n", "Codename: trixie\n\n", "second stanza"},
		"suite twice":          {"Codename: trixie\n", "Codename: trixie\nsuite: sid\n", "given twice"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(good, tt.old, tt.new, 1)
			if text == good {
				t.Fatal("nothing was replaced")
			}
			if _, err := parseRelease([]byte(text)); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func FuzzInRelease(f *testing.F) {
	data, keyringData := realInRelease(f, "trixie")
	keyring, err := readKeyring(keyringData)
	if err != nil {
		f.Fatal(err)
	}
	genuine, err := openInRelease(data, keyring, released)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(append([]byte("x\n"), data...))
	f.Add(append(bytes.Clone(data), "x\n"...))
	f.Add(bytes.Replace(data, []byte("\n"), []byte("\r\n"), 3))
	f.Add(bytes.Replace(data, []byte("Hash: SHA256\n"), []byte("Hash: SHA256\nHash: SHA1\n"), 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		if text, err := openInRelease(data, keyring, released); err == nil && !bytes.Equal(text, genuine) {
			t.Errorf("a text that Debian did not sign was accepted: %q", text)
		}
	})
}

func FuzzRelease(f *testing.F) {
	f.Add([]byte("Suite: s\nDate: Sat, 12 Sep 2026 07:55:41 UTC\nSHA256:\n 0000000000000000000000000000000000000000000000000000000000000000 12 a/b\n"))
	f.Add([]byte("SHA256:"))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseRelease(text)
		if err != nil {
			return
		}
		for path, file := range r.Files {
			if strings.HasPrefix(path, "/") || strings.Contains("/"+path+"/", "/../") || file.Size < 0 || len(file.SHA256) != 64 {
				t.Errorf("%q: %+v", path, file)
			}
		}
		if r.Date.IsZero() {
			t.Error("no date")
		}
	})
}

func FuzzIndex(f *testing.F) {
	f.Add("Package: aa\nVersion: 1\nArchitecture: all\nFilename: pool/a.deb\nSize: 3\nSHA256: " + strings.Repeat("0", 64) + "\nDepends: bb\nEssential: yes\n\n" +
		"Package: bb\nVersion: 1:2\nArchitecture: amd64\nFilename: pool/b.deb\nSize: 3\nSHA256: " + strings.Repeat("0", 64) + "\nProvides: cc (= 2)\nConflicts: cc\n")
	f.Fuzz(func(t *testing.T, text string) {
		ix, err := parseIndex(strings.NewReader(text), "amd64")
		if err != nil {
			return
		}
		for name := range ix.packages {
			all, err := ix.Closure([]string{name})
			if err != nil {
				continue
			}
			for _, p := range all {
				if checkFilename(p.Filename) != nil || !isHex(p.SHA256, 64) || p.Size <= 0 || !isName(p.Source) {
					t.Errorf("%+v", p)
				}
			}
		}
	})
}
