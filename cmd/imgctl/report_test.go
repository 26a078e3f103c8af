package main

import (
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/imgctl/imgctl/pkg/build/inspect"
)

// longReport has the longest names that a report is made for, and hostile ones.
func longReport() inspect.Report {
	r := inspect.Report{
		Architecture: "amd64", Compressed: 123456789, Uncompressed: 987654321,
		Counts: inspect.Counts{Files: 123456, HardLinks: 1234, Directories: 12345, Links: 12345, ELF: 12345, Packages: 1234},
	}
	for i := range 20 {
		name := fmt.Sprintf("%02d%s", i, strings.Repeat("n", 60))
		r.Layers = append(r.Layers, inspect.Layer{Digest: "sha256:" + strings.Repeat("a", 64), Compressed: 1023 << 20, Uncompressed: 1023 << 20, Hidden: 1023 << 20, Files: 123456})
		r.Packages = append(r.Packages, inspect.PackageUsage{Name: name, Version: strings.Repeat("9", 60), Bytes: 1023 << 20, Files: 123456})
		r.Largest = append(r.Largest, inspect.FileUsage{Path: "/" + strings.Repeat("d/", 60) + name, Bytes: 1023 << 20, Package: name})
		r.Privileged = append(r.Privileged, inspect.Privileged{Path: "/" + strings.Repeat("d/", 60) + "\x1b[31m\n", Mode: "4755", Owner: "65534:65534", Capability: "01", Package: name})
	}
	return r
}

func TestReportFitsTheTerminal(t *testing.T) {
	var out strings.Builder
	if err := printReport(&out, "v1.36.2-full linux/amd64", longReport()); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 || strings.ContainsRune(line, 0x1b) {
			t.Errorf("%d columns: %q", n, line)
		}
	}
	for _, want := range []string{"v1.36.2-full linux/amd64  117.7 MiB to pull, 941.9 MiB of layers\n", "1234 packages, 123456 files,", "  5 more\n", "4755+cap", "…"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("got no %q in\n%s", want, out.String())
		}
	}
}

func TestReportOfASmallImageIsWhole(t *testing.T) {
	r := inspect.Report{
		Compressed: 1 << 20, Uncompressed: 2 << 20, Counts: inspect.Counts{Files: 1, Directories: 2},
		Layers:   []inspect.Layer{{Digest: "sha256:0123456789abcdef", Compressed: 1 << 20, Uncompressed: 2 << 20, Files: 1}},
		Packages: []inspect.PackageUsage{{Bytes: 1536, Files: 1}},
		Largest:  []inspect.FileUsage{{Path: "/usr/bin/imgctl", Bytes: 1536}},
	}
	var out strings.Builder
	if err := printReport(&out, "latest linux/amd64", r); err != nil {
		t.Fatal(err)
	}
	want := `latest linux/amd64  1.0 MiB to pull, 2.0 MiB of layers
0 packages, 1 files, 2 directories, 0 links, 0 hard links
0 programs and libraries, 0 files that give rights

      PULL    UNPACKED     HIDDEN   FILES  LAYER
   1.0 MiB     2.0 MiB        0 B       1  sha256:0123456789ab

      SIZE   FILES  PACKAGE        VERSION
   1.5 KiB       1  of no package  –

      SIZE  FILE             PACKAGE
   1.5 KiB  /usr/bin/imgctl  –
`
	if out.String() != want {
		t.Errorf("got\n%s\nwant\n%s", out.String(), want)
	}
}

func TestShortNamesStayAsTheyAre(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"abcdefghi", "abcdefghi"}, {"abcdefghij", "abc…fghij"}, {"äbcdefghij", "äbc…fghij"}, {"", ""}, {"a\nb", "a b"},
	} {
		if got := shorten(tt.in, 9); got != tt.want {
			t.Errorf("%q: got %q, want %q", tt.in, got, tt.want)
		}
	}
}
