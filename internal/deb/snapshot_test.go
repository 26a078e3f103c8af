package deb_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
)

// gone publishes an archive whose package "tool 1" was locked and then replaced
// by "tool 2", and the snapshots that were taken at these times after the suite's date.
func gone(t *testing.T, d *imgtest.Debian, taken ...time.Duration) (deb.File, *imgtest.DebianSnapshot) {
	t.Helper()
	s, err := archive(t, d).Suite(t.Context(), d.Codename, "amd64")
	if err != nil {
		t.Fatal(err)
	}
	p, ok := s.Packages["amd64"].Lookup("tool")
	if !ok {
		t.Fatal("no package tool")
	}
	snapshot := imgtest.NewDebianSnapshot(t)
	old := d.Packages
	for _, after := range taken {
		d.Packages = old
		if after < 0 {
			d.Packages = nil // the package is not there yet
		}
		d.Publish(t)
		snapshot.Take(d, d.Date.Add(after))
	}
	d.Packages = []imgtest.Deb{{Name: "tool", Version: "2"}}
	d.Publish(t)
	f := p.File()
	f.Date = s.Date
	return f, snapshot
}

func TestAPackageThatLeftTheArchiveIsFoundInASnapshot(t *testing.T) {
	const early, late = -3 * time.Hour, 3 * time.Hour
	for name, taken := range map[string][]time.Duration{
		"before and after the suite":          {early, late},
		"only after it":                       {late},
		"at the very moment":                  {0},
		"at the very moment, and a day later": {0, 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			d := imgtest.NewDebian(t, imgtest.Deb{Name: "tool", Version: "1"})
			f, snapshot := gone(t, d, taken...)
			a := archive(t, d)
			if _, err := a.Fetch(t.Context(), f); !download.NotFound(err) {
				t.Fatalf("without snapshots: got %v, want not found", err)
			}
			a.Snapshot = snapshot.URL + "/" // as many people write it
			path, err := a.Fetch(t.Context(), f)
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasSuffix(path, f.SHA256) {
				t.Errorf("got %s", path)
			}
			asked := snapshot.Requests()
			want := "archive/debian/" + d.Date.UTC().Add(24*time.Hour).Format("20060102T150405Z") + "/" + f.Filename
			if len(asked) == 0 || asked[0] != want {
				t.Errorf("asked for %v, first want %s", asked, want)
			}
		})
	}
}

func TestSnapshotsOfSecurityAreItsOwn(t *testing.T) {
	d := imgtest.NewDebian(t)
	s := d.Security(t, imgtest.Deb{Name: "tool", Version: "1"})
	f, snapshot := gone(t, s, time.Hour)
	a := archive(t, s)
	a.Name, a.Snapshot = deb.Security, snapshot.URL
	if _, err := a.Fetch(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	if asked := snapshot.Requests(); !strings.HasPrefix(asked[0], "archive/debian-security/") || !strings.HasPrefix(f.Filename, "pool/updates/main/") {
		t.Errorf("asked for %v", asked)
	}
}

func TestSnapshotsAreAskedOnlyForWhatIsGone(t *testing.T) {
	d := imgtest.NewDebian(t, imgtest.Deb{Name: "tool", Version: "1"})
	f, snapshot := gone(t, d, time.Hour)
	a := archive(t, d)
	a.Snapshot = snapshot.URL
	s, err := a.Suite(t.Context(), "trixie", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	p, _ := s.Packages["amd64"].Lookup("tool")
	now := p.File()
	now.Date = s.Date
	if _, err := a.Fetch(t.Context(), now); err != nil || p.Version != "2" {
		t.Errorf("what the archive has: %v", err)
	}
	d.Tamper(t, p.Filename)
	b := archive(t, d)
	b.Snapshot = snapshot.URL
	var m *download.Mismatch
	if _, err := b.Fetch(t.Context(), now); !errors.As(err, &m) {
		t.Errorf("a tampered one: got %v, want a mismatch", err)
	}
	f.Date = time.Time{}
	if _, err := a.Fetch(t.Context(), f); !download.NotFound(err) {
		t.Errorf("without a date: got %v", err)
	}
	if asked := snapshot.Requests(); len(asked) > 0 {
		t.Errorf("asked for %v", asked)
	}
}

func TestASnapshotWithoutThePackageIsNotFoundAndOneThatIsDownIsUnreachable(t *testing.T) {
	d := imgtest.NewDebian(t, imgtest.Deb{Name: "tool", Version: "1"})
	f, snapshot := gone(t, d, -time.Hour)
	a := archive(t, d)
	a.Snapshot = snapshot.URL
	_, err := a.Fetch(t.Context(), f)
	if !download.NotFound(err) || !strings.Contains(err.Error(), "not in the archive any more") || !strings.Contains(err.Error(), snapshot.URL) {
		t.Errorf("in no snapshot: got %v", err)
	}
	a.Snapshot = "http://127.0.0.1:1"
	if _, err := a.Fetch(t.Context(), f); !download.Unreachable(err) || download.NotFound(err) {
		t.Errorf("nobody answers: got %v, want unreachable", err)
	}
	a.Snapshot = "ftp://snapshot.invalid"
	if _, err := a.Fetch(t.Context(), f); err == nil || !strings.Contains(err.Error(), "snapshot service") {
		t.Errorf("no such address: got %v", err)
	}
}

// The pin decides: what a snapshot has under the name may be anything.
func TestASnapshotWithOtherBytesIsAMismatch(t *testing.T) {
	d := imgtest.NewDebian(t, imgtest.Deb{Name: "tool", Version: "1"})
	f, _ := gone(t, d)
	other := imgtest.NewDebian(t, imgtest.Deb{Name: "tool", Version: "1", Files: []imgtest.DebFile{{Path: "usr/bin/evil"}}})
	snapshot := imgtest.NewDebianSnapshot(t)
	snapshot.Take(other, d.Date)
	a := archive(t, d)
	a.Snapshot = snapshot.URL
	var m *download.Mismatch
	if _, err := a.Fetch(t.Context(), f); !errors.As(err, &m) {
		t.Errorf("got %v, want a mismatch", err)
	}
}

func TestOfflineSaysAllThatIsMissing(t *testing.T) {
	var packages []imgtest.Deb
	for i := range 9 {
		packages = append(packages, imgtest.Deb{Name: fmt.Sprintf("tool%d", i), Compress: "none"})
	}
	d := imgtest.NewDebian(t, packages...)
	a := archive(t, d)
	s, err := a.Suite(t.Context(), "trixie", "amd64")
	if err != nil {
		t.Fatal(err)
	}
	var files []deb.File
	for _, p := range packages {
		found, _ := s.Packages["amd64"].Lookup(p.Name)
		files = append(files, found.File())
	}
	if _, err := a.FetchAll(t.Context(), 0, files[:2]...); err != nil {
		t.Fatal(err)
	}
	a.Download.Offline = true
	asked := len(d.Requests())
	if paths, err := a.FetchAll(t.Context(), 0, files[:2]...); err != nil || len(paths) != 2 {
		t.Errorf("what the cache has: got %v, %v", paths, err)
	}
	_, err = a.FetchAll(t.Context(), 0, files...)
	var missing *deb.MissingError
	if !errors.As(err, &missing) || !download.Unreachable(err) || len(missing.Files) != 7 || missing.Files[0] != files[2].Filename {
		t.Fatalf("got %v", err)
	}
	want := "offline, and 7 of 9 packages are not in the cache at " + a.Download.Dir() +
		": tool2_1.0-1_all.deb, tool3_1.0-1_all.deb, tool4_1.0-1_all.deb, tool5_1.0-1_all.deb, tool6_1.0-1_all.deb, and 2 more"
	if err.Error() != want {
		t.Errorf("got  %s\nwant %s", err, want)
	}
	if got := len(d.Requests()); got != asked {
		t.Errorf("offline, %d requests were sent", got-asked)
	}
}
