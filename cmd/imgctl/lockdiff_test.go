package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/pkg/build"
)

func TestADifferenceIsALineForEachChange(t *testing.T) {
	in := func(variant, platform string, old, new int64) build.PackageSize {
		return build.PackageSize{Variant: variant, Platform: platform, Old: old, New: new}
	}
	image := func(variant, platform string, old, new int64) build.ImageDiff {
		return build.ImageDiff{Variant: variant, Platform: platform, OldPackages: 9, NewPackages: 9, Old: old, New: new}
	}
	d := build.LockDiff{
		Kubernetes: []build.VersionDiff{{Change: build.Updated, Asked: "stable-1.36", Old: "v1.36.2", New: "v1.36.4"}, {Change: build.Added, New: "v1.35.1"}},
		Suites:     []build.SuiteDiff{{Suite: "trixie", Old: "2026-09-12T07:55:41Z", New: "2026-11-14T08:00:00Z"}, {Suite: "trixie-security", New: "2026-11-14T08:00:00Z"}},
		Packages: []build.PackageDiff{
			{Change: build.Updated, Name: "aa", Old: "1", New: "2", Security: true, CVEs: []string{"CVE-2026-1000", "CVE-2026-2000"},
				Images: []build.PackageSize{in("slim", "linux/amd64", 10, 9), in("slim", "linux/arm64", 5000, 2000), in("full", "linux/amd64", 10, 9), in("full", "linux/arm64", 10, 9)}},
			{Change: build.Updated, Name: "bb", Old: "1", New: "2", Images: []build.PackageSize{in("full", "linux/amd64", 1, 2), in("full", "linux/arm64", 1, 2)}},
			{Change: build.Replaced, Name: "cc", Old: "1", New: "1", Images: []build.PackageSize{in("full", "linux/amd64", 1, 1), in("slim", "linux/amd64", 1, 1)}},
			{Change: build.Removed, Name: "dd", Old: "1", Images: []build.PackageSize{in("slim", "linux/arm64", 2048, 0)}},
			{Change: build.Downgraded, Name: "ee", Old: "2", New: "1", Security: true, Images: []build.PackageSize{in("slim", "linux/arm64", 1, 1)}},
		},
		Local: []build.FileDiff{{Change: build.Added, Name: "bin/x", New: 3}},
		Images: []build.ImageDiff{image("full", "linux/amd64", 1, 1), image("full", "linux/arm64", 1, 1),
			image("slim", "linux/amd64", 1<<20, 3<<20), image("slim", "linux/arm64", 1, 1)},
		Unknown: []string{"kubernetes: v1.34.9: \x1b[31mno\nanswer"},
	}
	var b strings.Builder
	if err := writeDiff(&b, d); err != nil {
		t.Fatal(err)
	}
	want := strings.Join([]string{
		"updated     kubernetes        v1.36.2 → v1.36.4    stable-1.36",
		"added       kubernetes        v1.35.1",
		"security    aa                1 → 2  -2.9 KiB  CVE-2026-1000, CVE-2026-2000",
		"updated     bb                1 → 2  +1 B      only in full",
		"replaced    cc                1      +0 B      only in full linux/amd64 and slim linux/amd64",
		"removed     dd                1      -2.0 KiB  only in slim linux/arm64",
		"downgraded  ee                2 → 1  +0 B      only in slim linux/arm64",
		"added       bin/x                    +3 B",
		"suite       trixie            2026-09-12T07:55:41Z → 2026-11-14T08:00:00Z",
		"suite       trixie-security   2026-11-14T08:00:00Z",
		"image       full linux/amd64  9 packages, 1 B                            +0 B",
		"image       full linux/arm64  9 packages, 1 B                            +0 B",
		"image       slim linux/amd64  9 packages, 1.0 MiB → 9 packages, 3.0 MiB  +2.0 MiB",
		"image       slim linux/arm64  9 packages, 1 B                            +0 B",
		"unknown     kubernetes: v1.34.9: [31mno answer", "",
	}, "\n")
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b.Reset()
	if err := writeDiff(&b, build.LockDiff{Suites: d.Suites, Images: d.Images}); err != nil || b.Len() > 0 {
		t.Errorf("later dates alone: got %q, %v", b.String(), err)
	}
}

func TestNewerIsCounted(t *testing.T) {
	for want, d := range map[string]build.LockDiff{
		"1 package is":   {Packages: make([]build.PackageDiff, 1)},
		"2 packages are": {Packages: make([]build.PackageDiff, 2)},
		"1 version of Kubernetes and 1 package are": {Kubernetes: make([]build.VersionDiff, 1), Packages: make([]build.PackageDiff, 1)},
		"2 versions of Kubernetes are":              {Kubernetes: make([]build.VersionDiff, 2)},
		"1 local file is":                           {Local: make([]build.FileDiff, 1)},
	} {
		if got := newerText(d); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
