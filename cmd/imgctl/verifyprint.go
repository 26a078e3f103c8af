package main

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/verify"
)

// print prints the verdicts in the form that was asked for.
func (c *verifyCmd) print(results []audited) error {
	found := make([]*verify.Inspection, len(results))
	for i, r := range results {
		found[i] = r.Inspection
	}
	switch c.output {
	case "json", "yaml":
		if len(results) == 1 {
			return printDocument(c.stdout, c.output, results[0])
		}
		return printDocument(c.stdout, c.output, struct {
			strict.Header
			Items []audited `json:"items"`
		}{header("InspectionList"), results})
	case "sarif":
		return printJSON(c.stdout, sarifOf(found, c.accept.file()))
	case "junit":
		return printJUnit(c.stdout, found)
	case "name":
		for _, in := range found {
			if in.Err == nil {
				fmt.Fprintf(c.stdout, "%s@%s\n", in.Through, in.Digest)
			}
		}
		return nil
	}
	for i, r := range results {
		if i > 0 {
			fmt.Fprintln(c.stdout)
		}
		printInspection(c.stdout, r.Inspection)
		c.printAudit(r)
	}
	return nil
}

// printInspection prints one table, one conclusion and, where there is one, the next step.
func printInspection(w io.Writer, in *verify.Inspection) {
	if len(in.Sources) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
		fmt.Fprintln(t, "SOURCE\tANSWERS\tDIGEST\tSIGNED BY\tVERDICT")
		for _, s := range in.Sources {
			fmt.Fprintln(t, strings.Join(cells(s), "\t"))
		}
		t.Flush()
	}
	for _, s := range in.Sources {
		if s.Detail != "" {
			fmt.Fprintf(w, "  %s: %s\n", s.Source, oneLine(s.Detail))
		}
	}
	if len(in.Sources) > 0 {
		fmt.Fprintln(w)
	}
	fmt.Fprintln(w, in.Conclusion)
	if in.Next != "" {
		fmt.Fprintln(w, in.Next)
	}
}

// cells are the columns of a source.
func cells(s verify.SourceVerdict) []string {
	verdict := string(s.Verdict)
	if s.Reason != "" {
		verdict += ": " + string(s.Reason)
	}
	answers := s.Answer() + ", " + tookText(time.Duration(s.TookMillis)*time.Millisecond)
	return []string{s.Source, answers, orDash(shortDigest(s.Digest)), orDash(strings.Join(s.Signers, ", ")), verdict}
}

// tableText is what [printInspection] prints.
func tableText(in *verify.Inspection) string {
	var b bytes.Buffer
	printInspection(&b, in)
	return b.String()
}

func orDash(s string) string {
	if s == "" {
		return "–"
	}
	return oneLine(s)
}
