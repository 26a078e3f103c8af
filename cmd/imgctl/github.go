package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/verify"
)

const (
	maxAnnotations = 10      // of one level that GitHub shows for a step
	maxSummary     = 1 << 20 // bytes that it takes for a step's summary
)

func checkAnnotations(mode string) error {
	if !slices.Contains([]string{"auto", "github", "none"}, mode) {
		return usage(fmt.Errorf("--annotations: got %q, want one of auto, github, none", mode))
	}
	return nil
}

// tellGitHub shows the verdicts where people look who run this as a step of a
// workflow: beside the run, and in the summary of the step.
func (c *verifyCmd) tellGitHub(found []*verify.Inspection) error {
	if c.annotations == "github" || c.annotations == "auto" && c.getenv("GITHUB_ACTIONS") == "true" {
		annotate(c.stderr, found)
	}
	path := c.getenv("GITHUB_STEP_SUMMARY")
	if path == "" || c.annotations == "none" {
		return nil
	}
	return appendSummary(path, summaryOf(found))
}

// annotate prints workflow commands, the worst first. They go to stderr, which
// GitHub reads as well: stdout is the result.
func annotate(w io.Writer, found []*verify.Inspection) {
	for _, level := range []string{"error", "warning"} {
		shown := 0
		for _, in := range found {
			if in.Next == "" && in.Err == nil || severity(in) != level || shown == maxAnnotations {
				continue
			}
			shown++
			fmt.Fprintf(w, "::%s title=%s::%s\n", level, property(in.Reference+" is "+string(in.Verdict)), data(verdictText(in)))
		}
	}
}

// data escapes the text of a workflow command.
func data(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

// property escapes the value of one of its properties.
func property(s string) string {
	return strings.NewReplacer(":", "%3A", ",", "%2C").Replace(data(s))
}

// summaryOf is the verdicts as Markdown.
func summaryOf(found []*verify.Inspection) string {
	var b strings.Builder
	for _, in := range found {
		fmt.Fprintf(&b, "### %s: `%s`\n\n", in.Verdict, in.Reference)
		if len(in.Sources) > 0 {
			b.WriteString("| source | answers | digest | signed by | verdict |\n|---|---|---|---|---|\n")
		}
		for _, s := range in.Sources {
			row := cells(s)
			for i, cell := range row {
				row[i] = strings.NewReplacer("|", `\|`, "<", "&lt;", "`", "'").Replace(oneLine(cell))
			}
			fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | "))
		}
		fmt.Fprintf(&b, "\n%s %s\n\n", in.Conclusion, in.Next)
	}
	return b.String()
}

// appendSummary adds text to the summary as far as there is room for it.
func appendSummary(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("write step summary: %w", err)
	}
	info, err := f.Stat()
	if err == nil {
		const note = "\n\nThe rest is longer than GitHub shows.\n"
		if room := maxSummary - info.Size(); int64(len(text)) > room {
			text = strings.ToValidUTF8(text[:max(0, room-int64(len(note)))], "") + note
		}
		_, err = f.WriteString(text)
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("write step summary: %w", err)
	}
	return nil
}
