package deb

import (
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func readAll(text string) ([]stanza, error) {
	r := newStanzaReader(strings.NewReader(text))
	var all []stanza
	for {
		s, err := r.next()
		if err == io.EOF {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		all = append(all, s)
	}
}

func TestStanzasAreReadInOrder(t *testing.T) {
	got, err := readAll("\n \n\nPackage: a\nDescription: short\n long\n .\n\tmore  \nEmpty:\nList:\n x\n y\n\n\nPackage:b\n")
	if err != nil {
		t.Fatal(err)
	}
	want := []stanza{
		{{"Package", "a"}, {"Description", "short\n long\n .\n\tmore"}, {"Empty", ""}, {"List", "\n x\n y"}},
		{{"Package", "b"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got[0].get("package") != "a" || got[0].get("absent") != "" || cmp.Diff([]string{"x", "y"}, got[0].words("LIST")) != "" {
		t.Errorf("get and words: %v", got[0])
	}
}

func TestControlFilesThatCouldBeMisreadAreRefused(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"field twice":               {"A: 1\nB: 2\na: 3\n", "line 3: field a given twice"},
		"carriage return":           {"A: 1\r\n", `line 1: character '\r'`},
		"carriage return inside":    {"A: 1\n x\ry\n", `line 2: character '\r'`},
		"NUL":                       {"A: 1\x00\n", `line 1: character '\x00'`},
		"continuation of nothing":   {" A: 1\n", "line 1: continuation of no field"},
		"no colon":                  {"A: 1\nhello\n", "line 2: not a field"},
		"no name":                   {": 1\n", "line 1: not a field"},
		"name with a blank":         {"A B: 1\n", "line 1: not a field"},
		"name with a dash first":    {"-A: 1\n", "line 1: not a field"},
		"comment where none may be": {"A: 1\n# c\n", "line 2: not a field"},
		"endless line":              {"A: " + strings.Repeat("x", maxLine+1), "line 1: longer than"},
		"too many fields":           {manyFields(maxFields + 1), "more than 512 fields"},
		"endless stanza":            {"A: 1\n" + strings.Repeat(" "+strings.Repeat("x", 1<<16)+"\n", maxStanza>>16+1), "stanza larger than"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := readAll(tt.text); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if _, err := readAll(manyFields(maxFields)); err != nil {
		t.Errorf("as many fields as allowed: %v", err)
	}
}

func manyFields(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString("F")
		b.WriteString(strings.Repeat("x", i))
		b.WriteString(": 1\n")
	}
	return b.String()
}

func TestOnlyStanzaIsTheOnlyOne(t *testing.T) {
	if s, err := onlyStanza([]byte("A: 1\n\n\n")); err != nil || s.get("A") != "1" {
		t.Errorf("one stanza: got %v, %v", s, err)
	}
	for text, want := range map[string]string{"": "empty", "\n\n": "empty", "A: 1\n\nB: 2\n": "second stanza", "A: 1\n\n\x00": "second stanza"} {
		if _, err := onlyStanza([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
}

func FuzzStanza(f *testing.F) {
	for _, s := range []string{"", "A: 1\n\nB: 2\n c\n", "# c\nA:1", "A: 1\nA: 2", " x", "A:\n\tx\n .\n", "A: \r\n", "Package: a\nDepends: b (>= 1)\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		all, err := readAll(text)
		if err != nil {
			return
		}
		var again strings.Builder // what was read, written and read again, is the same
		for _, s := range all {
			if len(s) == 0 {
				t.Fatal("a stanza without fields")
			}
			for _, f := range s {
				if strings.ContainsAny(f.Name+f.Value, "\r\x00") || f.Name == "" {
					t.Fatalf("field %q: %q", f.Name, f.Value)
				}
				again.WriteString(f.Name + ": " + f.Value + "\n")
			}
			again.WriteString("\n")
		}
		second, err := readAll(again.String())
		if diff := cmp.Diff(all, second); err != nil || diff != "" {
			t.Errorf("%v (-first +second):\n%s", err, diff)
		}
	})
}
