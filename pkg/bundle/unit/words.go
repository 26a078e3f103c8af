package unit

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// escapes are those of one letter (systemd.syntax(7), "Quoting"), and that of the
// semicolon, which would part two commands.
var escapes = map[byte]byte{
	'a': '\a', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t', 'v': '\v', 's': ' ', '\\': '\\', '"': '"', '\'': '\'', ';': ';',
}

// Split cuts a value into words: white space parts them, quotes around a word or
// a part of one keep it together, and a backslash starts an escape. Specifiers
// and variables are as they were written, see [Literal].
func Split(value string) ([]string, error) {
	found, err := split(value)
	words := make([]string, len(found))
	for i, w := range found {
		words[i] = w.text
	}
	return words, err
}

// word is one word, and whether nothing of it was quoted or escaped.
type word struct {
	text string
	bare bool
}

func split(value string) ([]word, error) {
	var words []word
	for {
		value = strings.TrimLeft(value, space)
		if value == "" {
			return words, nil
		}
		w, n, err := first(value)
		if err != nil {
			return nil, err
		}
		words, value = append(words, w), value[n:]
	}
}

const space = " \t\n\r"

// first reads the word that s starts with, and says how long it is.
func first(s string) (word, int, error) {
	var text strings.Builder
	var quote byte
	bare := true
	i := 0
	for i < len(s) && (quote != 0 || strings.IndexByte(space, s[i]) < 0) {
		n := 1
		switch c := s[i]; {
		case c == '\\':
			escaped, size, err := unescape(s[i:])
			if err != nil {
				return word{}, 0, err
			}
			text.WriteString(escaped)
			n, bare = size, false
		case quote != 0 && c == quote:
			quote = 0
		case quote == 0 && (c == '"' || c == '\''):
			quote, bare = c, false
		default:
			text.WriteByte(c)
		}
		i += n
	}
	if quote != 0 {
		return word{}, 0, fmt.Errorf("the quote %c is not closed", quote)
	}
	return word{text.String(), bare}, i, nil
}

var errEscape = errors.New("a backslash starts no escape that systemd knows")

// unescape reads the escape that s starts with, and says how long it is.
func unescape(s string) (text string, n int, err error) {
	if len(s) < 2 {
		return "", 0, errEscape
	}
	if c, ok := escapes[s[1]]; ok {
		return string(c), 2, nil
	}
	digits, base, from := 0, 16, 2
	switch {
	case s[1] == 'x':
		digits = 2
	case s[1] == 'u':
		digits = 4
	case s[1] == 'U':
		digits = 8
	case s[1] >= '0' && s[1] <= '7':
		digits, base, from = 3, 8, 1
	default:
		return "", 0, errEscape
	}
	if len(s) < from+digits {
		return "", 0, errEscape
	}
	code, err := strconv.ParseUint(s[from:from+digits], base, 32)
	if err != nil || code == 0 {
		return "", 0, errEscape
	}
	if s[1] != 'u' && s[1] != 'U' {
		if code > 0xff {
			return "", 0, errEscape
		}
		return string([]byte{byte(code)}), from + digits, nil
	}
	if !utf8.ValidRune(rune(code)) {
		return "", 0, errEscape
	}
	return string(rune(code)), from + digits, nil
}

// Literal returns a word with its doubled percent and dollar signs made single,
// and whether that is what the program gets: it is not where a specifier ("%h")
// or a variable ("$X", "${X}") is left. Environment= expands no variables.
func Literal(word string, variables bool) (text string, ok bool) {
	var out strings.Builder
	ok = true
	for i := 0; i < len(word); i++ {
		c := word[i]
		if c == '%' || c == '$' && variables {
			switch {
			case i+1 < len(word) && word[i+1] == c:
				i++
			case c == '%', i+1 < len(word) && startsVariable(word[i+1]):
				ok = false
			}
		}
		out.WriteByte(c)
	}
	return out.String(), ok
}

func startsVariable(c byte) bool {
	return c == '{' || c == '_' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

// Quote spells an argument of a command so that systemd hands it over as it is.
func Quote(arg string) string {
	arg = strings.ReplaceAll(strings.ReplaceAll(arg, "%", "%%"), "$", "$$")
	var out strings.Builder
	out.WriteByte('"')
	for i := range len(arg) {
		switch c := arg[i]; {
		case c == '"' || c == '\\':
			out.WriteByte('\\')
			out.WriteByte(c)
		case c < ' ' || c == 0x7f:
			fmt.Fprintf(&out, `\x%02x`, c)
		default:
			out.WriteByte(c)
		}
	}
	out.WriteByte('"')
	return out.String()
}

// Command is one command line of an Exec… setting.
type Command struct {
	Prefix string   // some of "-", "@", ":", "+", "!"
	Words  []string // as they are written; the first is the program
	Line   int
}

// Commands returns the commands of a setting: a lone ";" parts them.
func (s Setting) Commands() ([]Command, error) {
	words, err := split(s.Value)
	if err != nil {
		return nil, fmt.Errorf("%s=: %w", s.Key, err)
	}
	var commands []Command
	next := true
	for _, w := range words {
		switch {
		case w == word{";", true}:
			next = true
		case next:
			program := strings.TrimLeft(w.text, "-@:+!|")
			commands = append(commands, Command{Prefix: w.text[:len(w.text)-len(program)], Words: []string{program}, Line: s.Line})
			next = false
		default:
			last := &commands[len(commands)-1]
			last.Words = append(last.Words, w.text)
		}
	}
	return commands, nil
}
