package node

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The tests that stop or fail an installation at each step see only the steps
// of disk.go: nothing else may change files.
func TestOnlyTheDiskChangesFiles(t *testing.T) {
	changing := []string{
		"Chmod", "Chown", "Chtimes", "Create", "CreateTemp", "Lchown", "Link", "Mkdir", "MkdirAll", "MkdirTemp", "OpenFile",
		"Remove", "RemoveAll", "Rename", "Symlink", "Sync", "WriteFile", "WriteString",
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	inDisk := 0
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			sel, ok := n.(*ast.SelectorExpr)
			switch {
			case !ok || !slices.Contains(changing, sel.Sel.Name):
			case name == "disk.go":
				inDisk++
			default:
				t.Errorf("%s: %s outside of disk.go", set.Position(sel.Pos()), sel.Sel.Name)
			}
			return true
		})
	}
	if inDisk < 8 {
		t.Errorf("found %d changing calls in disk.go, want more", inDisk)
	}
}
