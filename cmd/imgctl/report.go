package main

import (
	"cmp"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/imgctl/imgctl/pkg/build/inspect"
)

// reportRows is how many packages and files a report shows; JSON has them all.
const reportRows = 15

// printReport prints what is in the image called name, in lines of at most 80 columns.
func printReport(w io.Writer, name string, r inspect.Report) error {
	n := r.Counts
	fmt.Fprintf(w, "%s  %s to pull, %s of layers\n", oneLine(name), bytesText(r.Compressed), bytesText(r.Uncompressed))
	fmt.Fprintf(w, "%d packages, %d files, %d directories, %d links, %d hard links\n",
		n.Packages, n.Files, n.Directories, n.Links, n.HardLinks)
	fmt.Fprintf(w, "%d programs and libraries, %d files that give rights\n", n.ELF, len(r.Privileged))
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\n      PULL\t  UNPACKED\t   HIDDEN\t FILES\tLAYER")
	for _, l := range r.Layers {
		fmt.Fprintf(t, "%10s\t%10s\t%9s\t%6d\t%s\n", bytesText(l.Compressed), bytesText(l.Uncompressed), bytesText(l.Hidden), l.Files, shortDigest(l.Digest))
	}
	fmt.Fprintln(t, "\n      SIZE\t FILES\tPACKAGE\tVERSION")
	for _, p := range r.Packages[:min(reportRows, len(r.Packages))] {
		fmt.Fprintf(t, "%10s\t%6d\t%s\t%s\n", bytesText(p.Bytes), p.Files, shorten(cmp.Or(p.Name, "of no package"), 30), orDash(shorten(p.Version, 26)))
	}
	printMore(t, len(r.Packages))
	fmt.Fprintln(t, "\n      SIZE\tFILE\tPACKAGE")
	for _, f := range r.Largest[:min(reportRows, len(r.Largest))] {
		fmt.Fprintf(t, "%10s\t%s\t%s\n", bytesText(f.Bytes), shorten(f.Path, 46), orDash(shorten(f.Package, 20)))
	}
	if len(r.Privileged) > 0 {
		fmt.Fprintln(t, "\nMODE\tOWNER\tFILE\tPACKAGE")
	}
	for _, p := range r.Privileged {
		mode := p.Mode
		if p.Capability != "" {
			mode += "+cap"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", mode, p.Owner, shorten(p.Path, 35), orDash(shorten(p.Package, 20)))
	}
	return t.Flush()
}

// printMore says how many rows a table would have had beyond those shown.
func printMore(w io.Writer, all int) {
	if more := all - reportRows; more > 0 {
		fmt.Fprintf(w, "%10s\t%6s\t%d more\n", "", "", more)
	}
}

// shorten keeps both ends of a name that is longer than n characters.
func shorten(s string, n int) string {
	r := []rune(oneLine(s))
	if len(r) <= n {
		return string(r)
	}
	head := n / 3
	return string(r[:head]) + "…" + string(r[len(r)-(n-head-1):])
}
