//go:build e2e

package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/peers"
)

// The rows of the table, and what is released where for them.
const (
	rowIndex  = "index"
	rowChild  = "platform manifest"
	rowSBOM   = "SBOM attestation"
	rowBundle = "bundle"

	inBoth     = "interop"  // signed in both layouts, as by default
	inLegacy   = "legacy"   // signed in the older layout alone
	inUnsigned = "unsigned" // the same content
	inChildren = "children" // of an index that is not signed itself
)

var (
	rows     = []string{rowIndex, rowChild, rowSBOM, rowBundle}
	programs = []string{"cosign 2", "cosign 3", "podman", "skopeo", "oras", "crane", "regctl"}
)

// proof is one thing that a program does with one row.
type proof struct {
	column, row, does string
	run               func(t *testing.T, s *site)
}

// Real registries, real programs. docs/interop.md has the table that comes of it.
func TestRealRegistries(t *testing.T) {
	r := startRegistries(t)
	r.release(t, inLegacy, "formats: [legacy]\n")
	r.release(t, inBoth, "")
	r.push(t, inBoth, inUnsigned)

	t.Run("TableOfWhoSeesWhatIsThatOfTheDocs", r.testTable)
	t.Run("TreeSaysWhoSeesWhat", r.testTree)
	t.Run("DoctorTellsTheTruth", r.testDoctor)
	t.Run("QuirksAreAsTheDocsSay", r.testQuirks)
	t.Run("SecondReleaseWritesNothing", r.testNothingToDo)
	t.Run("PasswordIsNotSentToAStranger", r.testStranger)
}

// testTable makes the table at each registry and compares it with that of the docs.
func (r *registries) testTable(t *testing.T) {
	proofs := r.proofs(t)
	want := documented(t)
	for _, s := range r.all {
		got := map[string][]string{}
		for _, p := range proofs {
			if t.Run(strings.Join([]string{s.name, p.column, p.row, p.does}, "/"), func(t *testing.T) { p.run(t, s) }) {
				got[p.column+"/"+p.row] = append(got[p.column+"/"+p.row], p.does)
			}
		}
		if table := tableText(got); table != want {
			t.Errorf("%s: got\n%s\nwant that of docs/interop.md:\n%s", s.name, table, want)
		}
	}
}

// proofs are those of all programs.
func (r *registries) proofs(t *testing.T) []proof {
	t.Helper()
	other := t.TempDir() + "/other"
	output(t, shared.Command(t.Context(), "keygen", other))
	return slices.Concat(
		r.cosignProofs(t, "cosign 2", peers.Cosign2(), other+".pub"), r.cosignProofs(t, "cosign 3", peers.Cosign3(), other+".pub"),
		r.debianProofs(t, other+".pub"),
		r.orasProofs(t), r.craneProofs(t), r.regctlProofs(t))
}

// tableText is the table as it stands in the docs: "-" is a cell of which nothing
// was proven.
func tableText(cells map[string][]string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "| | %s |\n|%s\n", strings.Join(programs, " | "), strings.Repeat("---|", len(programs)+1))
	for _, row := range rows {
		fmt.Fprintf(&b, "| %s |", row)
		for _, column := range programs {
			cell := "-"
			if does := cells[column+"/"+row]; len(does) > 0 {
				cell = strings.Join(does, ", ")
			}
			fmt.Fprintf(&b, " %s |", cell)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// interopPage is docs/interop.md.
func interopPage(t *testing.T) string {
	t.Helper()
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	return string(readFile(t, filepath.Join(root, "docs/interop.md")))
}

// documented is its first table.
func documented(t *testing.T) string {
	t.Helper()
	_, rest, _ := strings.Cut(interopPage(t), "\n| |")
	table, _, found := strings.Cut("| |"+rest, "\n\n")
	if !found {
		t.Fatal("docs/interop.md: no table")
	}
	return table + "\n"
}

// The page names the versions of which its table speaks.
func TestInteropPageNamesTheVersions(t *testing.T) {
	for _, r := range []peers.Recipe{peers.Cosign2(), peers.Cosign3(), peers.Crane(), peers.Oras(""), peers.Regctl(), peers.Distribution()} {
		if _, version, ok := strings.Cut(r.Name, " v"); !ok || !strings.Contains(interopPage(t), " "+version) {
			t.Errorf("docs/interop.md: no version of %s", r.Name)
		}
	}
}

// ref is what a row is about, by digest, as it was released below prefix.
func (r *registries) ref(s *site, prefix, row string) string {
	released := r.released[prefix]
	switch row {
	case rowIndex:
		return s.image(prefix) + "@" + released.Image().Digest
	case rowBundle:
		return s.image(prefix) + "-bundle@" + released.Bundle().Platforms[0].Digest // of the one kind of machine
	}
	return s.image(prefix) + "@" + released.Platform("linux/amd64")
}
