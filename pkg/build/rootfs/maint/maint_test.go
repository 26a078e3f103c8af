package maint

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
)

func TestCommandsAreThoseInPlainSight(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		want   []Command
	}{
		"words and quotes":          {`tool a 'b  c' "d"'e' f\ g`, []Command{{"tool", "a", "b  c", "de", "f g"}}},
		"a line that goes on":       {"tool a \\\n  --b c\n", []Command{{"tool", "a", "--b", "c"}}},
		"several on a line":         {"one; two && three || four & five | six", []Command{{"one"}, {"two"}, {"three"}, {"four"}, {"five"}, {"six"}}},
		"keywords":                  {"if ! one; then two; elif three; then four; else five; fi", []Command{{"one"}, {"two"}, {"three"}, {"four"}, {"five"}, {"fi"}}},
		"a function":                {"f() { one; }\nf", []Command{{"f"}, {"one"}, {"}"}, {"f"}}},
		"a case":                    {"case x in\n(configure)\n one;;\n*) two;; esac", []Command{{"case", "x", "in"}, {"configure"}, {"one"}, {"*"}, {"two"}, {"esac"}}},
		"an assignment before":      {"LC_ALL=C A='b c' one two=3", []Command{{"one", "two=3"}}},
		"an assignment alone":       {"A=b\none", []Command{{"one"}}},
		"comments":                  {"# no\none # two\nthree#four", []Command{{"one"}, {"three#four"}}},
		"redirections":              {"one >/dev/null 2>&1 two < in 3", []Command{{"one", "two", "3"}}},
		"the root on which it is":   {`one "$DPKG_ROOT/etc/x" ${DPKG_ROOT}/y ${DPKG_ROOT:+--root="$DPKG_ROOT"} $DPKG_ROOT`, []Command{{"one", "/etc/x", "/y"}}},
		"an empty word":             {`one '' two`, []Command{{"one", "two"}}},
		"a variable":                {`one $x; two "a$x"; three ${DPKG_ROOT:-/x}; four ${#DPKG_ROOT}; five $DPKG_ROOTS; six`, []Command{{"six"}}},
		"a command in a command":    {"one $(two; three $(four)) five; six `seven`; eight", []Command{{"eight"}}},
		"special parameters":        {`one "$@"; two $1; three $?; four`, []Command{{"four"}}},
		"a dollar sign for itself":  {`one '$x'; two "\$x" "\x"`, []Command{{"one", "$x"}, {"two", "$x", `\x`}}},
		"what is never closed":      {`one "two`, []Command{{"one", "two"}}},
		"what is never closed, too": {`one $(two`, nil},
		"a backslash at the end":    {`one \`, []Command{{"one"}}},
		"nothing":                   {"\n \t\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Parse(tt.script).Commands; fmt.Sprintf("%q", got) != fmt.Sprintf("%q", tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDocumentsAreThoseThatCatWrites(t *testing.T) {
	for name, tt := range map[string]struct {
		script string
		want   []Document
	}{
		"redirection first":        {"cat > /etc/x <<EOF\na\n b\nEOF\n", []Document{{"/etc/x", "a\n b\n"}}},
		"redirection last":         {"cat <<END >/etc/x\na\nEND\n", []Document{{"/etc/x", "a\n"}}},
		"tabs do not count":        {"\tcat > /etc/x <<-EOF\n\t\ta\tb\n\tEOF\n", []Document{{"/etc/x", "a\tb\n"}}},
		"tabs count":               {"cat > /etc/x <<EOF\n\ta\nEOF\n", []Document{{"/etc/x", "\ta\n"}}},
		"quoted":                   {"cat > \"$DPKG_ROOT/etc/x\" <<'EOF'\n$a `b` \\c\nEOF\n", []Document{{"/etc/x", "$a `b` \\c\n"}}},
		"expanded":                 {"cat > /etc/x <<EOF\n$a\nEOF\n", nil},
		"to nobody knows where":    {"cat > $x <<EOF\na\nEOF\n", nil},
		"to the reader":            {"cat <<EOF\na\nEOF\n", nil},
		"by another program":       {"sed s/a/b/ > /etc/x <<EOF\na\nEOF\n", nil},
		"with another file":        {"cat - /etc/y > /etc/x <<EOF\na\nEOF\n", nil},
		"never ended":              {"cat > /etc/x <<EOF\na", []Document{{"/etc/x", "a\n"}}},
		"two on a line":            {"cat > /a <<A; cat > /b <<B\n1\nA\n2\nB\n", []Document{{"/a", "1\n"}, {"/b", "2\n"}}},
		"one for another and then": {"one <<A; cat > /b <<B\n1\nA\n2\nB\n", []Document{{"/b", "2\n"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Parse(tt.script).Documents; !reflect.DeepEqual(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	if got := Parse("cat > /x <<EOF\nrm -rf /\nEOF\nlast\n").Commands; len(got) != 2 || got[1][0] != "last" {
		t.Errorf("got %q, want the text to be no commands", got)
	}
}

func TestFlagsAreApartFromWords(t *testing.T) {
	flags, words := Command{"tool", "--quiet", "enable", "-x", "unit"}.Flags()
	if strings.Join(flags, " ") != "--quiet -x" || strings.Join(words, " ") != "enable unit" {
		t.Errorf("got %q and %q", flags, words)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("if [ \"$1\" = configure ]; then\n\tupdate-alternatives --install /a b /c 1 \\\n --slave /d e /f\nfi\n")
	f.Add("cat > /etc/x <<-'E O'\n\ta\nE O\n")
	f.Add("a ${b:+\"$c\"} `d` $(e (f)) \\\n # g\n")
	f.Add("a <<b <<c > d 2>&1\nb\nc\n")
	f.Fuzz(func(t *testing.T, script string) {
		s := Parse(script)
		for _, c := range s.Commands {
			if len(c) == 0 || c[0] == "" {
				t.Errorf("a command without a name in %q", s.Commands)
			}
		}
		for _, d := range s.Documents {
			if d.Path == "" {
				t.Error("a document that goes nowhere")
			}
		}
	})
}
