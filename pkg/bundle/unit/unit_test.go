package unit

import (
	"errors"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const service = `# a comment
[Unit]
Description = a  b
  ; another

[Service]
Environment="A=x y" B=1
ExecStart=/usr/bin/podman run \
  # not a part of the command
  --name=x \
  image
ExecStop=-/bin/true ; /bin/false ";" \;
[Service]
Restart=always`

func TestParseGivesBackSettingsWithTheirLines(t *testing.T) {
	f, err := Parse([]byte(service))
	if err != nil {
		t.Fatal(err)
	}
	want := &File{Sections: []Section{
		{Name: "Unit", Line: 2, Settings: []Setting{{"Description", "a  b", 3}}},
		{Name: "Service", Line: 6, Settings: []Setting{
			{"Environment", `"A=x y" B=1`, 7},
			{"ExecStart", "/usr/bin/podman run    --name=x    image", 8},
			{"ExecStop", `-/bin/true ; /bin/false ";" \;`, 12},
		}},
		{Name: "Service", Line: 13, Settings: []Setting{{"Restart", "always", 14}}},
	}}
	if !reflect.DeepEqual(f, want) {
		t.Errorf("got  %+v\nwant %+v", f, want)
	}
	if got := f.All("Service", "Restart"); len(got) != 1 || got[0].Line != 14 {
		t.Errorf("got %v", got)
	}
	commands, err := f.All("Service", "ExecStop")[0].Commands()
	if want := []Command{{"-", []string{"/bin/true"}, 12}, {"", []string{"/bin/false", ";", ";"}, 12}}; err != nil || !reflect.DeepEqual(commands, want) {
		t.Errorf("got %v (%v), want %v", commands, err, want)
	}
}

func TestParseRefusesWhatSystemdIgnores(t *testing.T) {
	for bad, line := range map[string]int{
		"[Unit\nA=b":              1,
		"[Unit]\nA b":             2,
		"A=b":                     1,
		"[Unit]\n\n=b":            3,
		"[Unit]\nA b=c":           2,
		"[Unit]\nA=\xff":          1,
		"[]":                      1,
		"[Unit]\nA=b \\\n\nC":     4,
		"[Unit]\nA=b \\\n\n[C] x": 4,
	} {
		_, err := Parse([]byte(bad))
		var e *Error
		if !errors.As(err, &e) || e.Line != line {
			t.Errorf("%q: got %v, want an error in line %d", bad, err, line)
		}
	}
	for _, good := range []string{"", "\n", "[Unit]\nA=", "[Unit]\r\nA=b\r\n", "[Unit]\nA=b \\", `[Unit]` + "\nA=b \\\\\nC=d"} {
		if _, err := Parse([]byte(good)); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
}

func TestSplitReadsQuotesAndEscapes(t *testing.T) {
	for value, want := range map[string][]string{
		`a  b`:                     {"a", "b"},
		`"a b"'c d'e`:              {"a bc de"},
		`"" ''`:                    {"", ""},
		`a\sb "\"" '\''`:           {"a b", `"`, "'"},
		`\x41\101\u00e4\U0001F600`: {"AAä😀"},
		`"it's" 'say "x"'`:         {"it's", `say "x"`},
		`%h ${X} $$ %%`:            {"%h", "${X}", "$$", "%%"},
		``:                         {},
	} {
		got, err := Split(value)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q (%v), want %q", value, got, err, want)
		}
	}
	for _, bad := range []string{`"a`, `'a`, `a\`, `\q`, `\x4`, `\x00`, `\uD800`, `\400`, `\U00110000`} {
		if got, err := Split(bad); err == nil {
			t.Errorf("%s: got %q, want an error", bad, got)
		}
	}
}

func TestLiteralTellsWhatSystemdWouldExpand(t *testing.T) {
	for _, tt := range []struct {
		word, want        string
		variables, wantOK bool
	}{
		{"a%%b$$c", "a%b$c", true, true},
		{"%h", "%h", true, false},
		{"${X}", "${X}", true, false},
		{"$X", "$X", true, false},
		{"$(x)", "$(x)", true, true},
		{"$X$$", "$X$$", false, true},
		{"%", "%", true, false},
	} {
		if got, ok := Literal(tt.word, tt.variables); got != tt.want || ok != tt.wantOK {
			t.Errorf("%s: got %q %t, want %q %t", tt.word, got, ok, tt.want, tt.wantOK)
		}
	}
}

// K01: what is quoted, written and parsed is what it was.
func TestK01ArgumentsSurviveAUnitFile(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	alphabet := []rune("ab \t\n\r\\\"'%$;#=[]{}-ä\x01\x7f😀")
	for range 2000 {
		var args []string
		for range 1 + random.IntN(4) {
			var arg []rune
			for range random.IntN(8) {
				arg = append(arg, alphabet[random.IntN(len(alphabet))])
			}
			args = append(args, string(arg))
		}
		checkArgs(t, args)
	}
}

func checkArgs(t *testing.T, args []string) {
	t.Helper()
	line := "/bin/x"
	for _, a := range args {
		line += " " + Quote(a)
	}
	written := &File{Sections: []Section{{Name: "Service", Line: 1, Settings: []Setting{{"ExecStart", line, 2}, {"Restart", "no", 3}}}}}
	f, err := Parse(written.Bytes())
	if err != nil || !reflect.DeepEqual(f, written) {
		t.Fatalf("%q: got %+v (%v), want %+v", args, f, err, written)
	}
	commands, err := f.All("Service", "ExecStart")[0].Commands()
	if err != nil || len(commands) != 1 {
		t.Fatalf("%q: got %v (%v), want one command", args, commands, err)
	}
	var got []string
	for _, w := range commands[0].Words[1:] {
		text, ok := Literal(w, true)
		if !ok {
			t.Errorf("%q: %q would be expanded", args, w)
		}
		got = append(got, text)
	}
	if !slices.Equal(got, args) {
		t.Errorf("got %q, want %q", got, args)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(service))
	f.Add([]byte("[A]\nB=\\\n\\\\\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse(data)
		if err != nil {
			return
		}
		again, err := Parse(file.Bytes())
		if err != nil {
			t.Fatalf("%q: %v", file.Bytes(), err)
		}
		if !reflect.DeepEqual(withoutLines(file), withoutLines(again)) {
			t.Errorf("got %+v, want %+v", again, file)
		}
	})
}

func withoutLines(f *File) []Section {
	var out []Section
	for _, s := range f.Sections {
		s.Line, s.Settings = 0, slices.Clone(s.Settings)
		for i := range s.Settings {
			s.Settings[i].Line = 0
		}
		out = append(out, s)
	}
	return out
}

func FuzzSplit(f *testing.F) {
	f.Add(`/bin/sh -c "a 'b' \x41" ; -/bin/true`)
	f.Fuzz(func(t *testing.T, s string) {
		if words, err := Split(s); err == nil {
			for _, w := range words {
				checkArgs(t, []string{strings.ToValidUTF8(strings.ReplaceAll(w, "\x00", ""), "")})
			}
		}
	})
}
