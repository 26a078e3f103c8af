// Package unit reads systemd unit files as systemd does.
//
// [Parse] gives back sections and settings with their lines (systemd.syntax(7)),
// [Split] the words of a command line or of an Environment= (systemd.service(5),
// "Command lines"), and [Quote] spells a word so that it is read back as it was.
package unit

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// MaxLine is the longest line that systemd reads, continuations included.
const MaxLine = 1 << 20

// File is a unit file.
type File struct{ Sections []Section }

// Section is one section; a name may come more than once.
type Section struct {
	Name     string
	Line     int // 1-based
	Settings []Setting
}

// Setting is one assignment, with its continuations joined by a space.
type Setting struct {
	Key, Value string
	Line       int // where it starts
}

// Error is a line that systemd would ignore or refuse.
type Error struct {
	Line int
	Msg  string
}

// Error implements error.
func (e *Error) Error() string { return fmt.Sprintf("line %d: %s", e.Line, e.Msg) }

// Parse reads a unit file. What systemd would ignore with a note in its journal
// is an error here: nobody reads that note in time.
func Parse(data []byte) (*File, error) {
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return nil, &Error{1, "want text in UTF-8"}
	}
	p := parser{file: &File{}}
	for line := range strings.Lines(string(data)) {
		p.number++
		if err := p.line(strings.TrimRight(line, "\r\n")); err != nil {
			return nil, err
		}
	}
	return p.file, p.flush()
}

// parser joins continued lines and files what they say.
type parser struct {
	file    *File
	number  int
	start   int // of the logical line; 0 when none is open
	logical strings.Builder
}

// line takes one line of the file.
func (p *parser) line(text string) error {
	trimmed := strings.TrimLeft(text, " \t")
	if strings.HasPrefix(trimmed, "#") || strings.HasPrefix(trimmed, ";") {
		return nil // within a continued line, too
	}
	if p.start == 0 {
		text, p.start = trimmed, p.number
	}
	body, continued := continues(text)
	p.logical.WriteString(body)
	if p.logical.Len() > MaxLine {
		return &Error{p.start, fmt.Sprintf("longer than %d bytes", MaxLine)}
	}
	if continued {
		p.logical.WriteByte(' ')
		return nil
	}
	return p.flush()
}

// continues cuts off the backslash at the end of a line that goes on. Of a run
// of them each escapes the next.
func continues(text string) (string, bool) {
	run := len(text) - len(strings.TrimRight(text, `\`))
	if run%2 == 0 {
		return text, false
	}
	return text[:len(text)-1], true
}

// flush files the logical line.
func (p *parser) flush() error {
	text, line := strings.Trim(p.logical.String(), space), p.start
	p.logical.Reset()
	p.start = 0
	if text == "" {
		return nil
	}
	if text[0] == '[' {
		return p.section(text, line)
	}
	key, value, ok := strings.Cut(text, "=")
	key = strings.Trim(key, space)
	switch {
	case !ok:
		return &Error{line, fmt.Sprintf("got %.80q, want KEY=VALUE", text)}
	case key == "" || strings.ContainsAny(key, " \t"):
		return &Error{line, fmt.Sprintf("got the key %.80q, want one word", key)}
	case len(p.file.Sections) == 0:
		return &Error{line, fmt.Sprintf("%.80s= is before any section", key)}
	}
	s := &p.file.Sections[len(p.file.Sections)-1]
	s.Settings = append(s.Settings, Setting{Key: key, Value: strings.Trim(value, space), Line: line})
	return nil
}

func (p *parser) section(text string, line int) error {
	name := strings.TrimSuffix(text[1:], "]")
	if len(name) != len(text)-2 || name == "" || strings.ContainsAny(name, "[]") {
		return &Error{line, fmt.Sprintf("got %.80q, want [SECTION]", text)}
	}
	p.file.Sections = append(p.file.Sections, Section{Name: name, Line: line})
	return nil
}

// Bytes writes the file. Comments and how lines were broken are not kept.
func (f *File) Bytes() []byte {
	var out bytes.Buffer
	for i, s := range f.Sections {
		if i > 0 {
			out.WriteByte('\n')
		}
		fmt.Fprintf(&out, "[%s]\n", s.Name)
		for _, set := range s.Settings {
			fmt.Fprintf(&out, "%s=%s\n", set.Key, set.Value)
		}
	}
	return out.Bytes()
}

// All returns the settings of a key, over all sections of that name.
func (f *File) All(section, key string) []Setting {
	var found []Setting
	for _, s := range f.Sections {
		if s.Name != section {
			continue
		}
		for _, set := range s.Settings {
			if set.Key == key {
				found = append(found, set)
			}
		}
	}
	return found
}
