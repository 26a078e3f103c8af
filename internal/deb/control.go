package deb

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Bounds of a control file, well above what Debian publishes: the largest
// stanza of trixie's main index has 21 KB, and InRelease is one of 140 KB.
const (
	maxStanza = 16 << 20
	maxLine   = 1 << 20
	maxFields = 512
)

// field is one field of a stanza. Continuation lines stand in Value as they
// were written, each after a newline and with its leading blank. There is no
// blank at the ends of Value.
type field struct{ Name, Value string }

// stanza is one paragraph of a control file (deb822(5)), in order.
type stanza []field

// get returns the value of a field, "" when it is absent. Case does not count.
func (s stanza) get(name string) string {
	for _, f := range s {
		if strings.EqualFold(f.Name, name) {
			return f.Value
		}
	}
	return ""
}

// words returns the value of a field split at blanks and newlines.
func (s stanza) words(name string) []string { return strings.Fields(s.get(name)) }

// stanzaReader reads the stanzas of a control file one after the other. It
// refuses what parsers of this format disagree about: a field given twice, a
// carriage return, a NUL and a line that belongs to no field.
type stanzaReader struct {
	lines    *bufio.Scanner
	line     int
	comments bool // lines that start with # are comments (debian/control, sources, copyright)
}

func newStanzaReader(r io.Reader) *stanzaReader {
	s := bufio.NewScanner(r)
	s.Buffer(make([]byte, 64<<10), maxLine)
	s.Split(splitLines)
	return &stanzaReader{lines: s}
}

// splitLines is bufio.ScanLines that does not hide a carriage return.
func splitLines(data []byte, atEOF bool) (advance int, token []byte, err error) {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		return i + 1, data[:i], nil
	}
	if atEOF && len(data) > 0 {
		return len(data), data, nil
	}
	return 0, nil, nil
}

// next returns the next stanza, and io.EOF after the last one.
func (r *stanzaReader) next() (stanza, error) {
	var s stanza
	var value strings.Builder // of the last field: what it has grown to
	size := 0
	for r.lines.Scan() {
		r.line++
		line := r.lines.Bytes()
		if size += len(line) + 1; size > maxStanza {
			return nil, fmt.Errorf("line %d: stanza larger than %d bytes", r.line, maxStanza)
		}
		switch {
		case r.comments && bytes.HasPrefix(line, []byte("#")):
			continue
		case len(bytes.TrimSpace(line)) == 0:
			if len(s) == 0 {
				size = 0
				continue
			}
			return s.closed(&value), nil
		}
		if err := s.add(line, &value); err != nil {
			return nil, fmt.Errorf("line %d: %w", r.line, err)
		}
	}
	if err := r.lines.Err(); err != nil {
		if errors.Is(err, bufio.ErrTooLong) {
			return nil, fmt.Errorf("line %d: longer than %d bytes", r.line+1, maxLine)
		}
		return nil, err
	}
	if len(s) == 0 {
		return nil, io.EOF
	}
	return s.closed(&value), nil
}

// add takes one line that is neither blank nor a comment. The last field's
// value is still in value, so that many continuation lines cost linear time.
func (s *stanza) add(line []byte, value *strings.Builder) error {
	if i := bytes.IndexAny(line, "\r\x00"); i >= 0 {
		return fmt.Errorf("character %q in a control file", line[i])
	}
	if line[0] == ' ' || line[0] == '\t' {
		if len(*s) == 0 {
			return fmt.Errorf("continuation of no field: %.40q", line)
		}
		value.WriteByte('\n')
		value.Write(line)
		return nil
	}
	name, rest, ok := bytes.Cut(line, []byte(":"))
	if !ok || !isFieldName(name) {
		return fmt.Errorf("not a field: %.40q", line)
	}
	*s = s.closed(value)
	for _, f := range *s {
		if strings.EqualFold(f.Name, string(name)) {
			return fmt.Errorf("field %s given twice", name)
		}
	}
	if len(*s) == maxFields {
		return fmt.Errorf("more than %d fields in a stanza", maxFields)
	}
	*s = append(*s, field{Name: string(name)})
	value.Write(bytes.TrimLeft(rest, " \t"))
	return nil
}

// closed gives the last field its value.
func (s stanza) closed(value *strings.Builder) stanza {
	if len(s) > 0 && s[len(s)-1].Value == "" {
		s[len(s)-1].Value = strings.TrimRight(value.String(), " \t\n")
	}
	value.Reset()
	return s
}

// isFieldName reports whether b is printable US-ASCII without blank and colon
// and does not start with "#" or "-" (Debian Policy 5.1).
func isFieldName(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c > '~' || c == ':' {
			return false
		}
	}
	return len(b) > 0 && b[0] != '#' && b[0] != '-'
}

// onlyStanza parses data, which must hold exactly one stanza.
func onlyStanza(data []byte) (stanza, error) {
	r := newStanzaReader(bytes.NewReader(data))
	s, err := r.next()
	if err == io.EOF {
		return nil, errors.New("empty control file")
	}
	if err != nil {
		return nil, err
	}
	if _, err := r.next(); err != io.EOF {
		return nil, errors.Join(errors.New("a second stanza: only one is read"), err)
	}
	return s, nil
}
