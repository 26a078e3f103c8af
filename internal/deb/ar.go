package deb

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

const (
	arMagic      = "!<arch>\n"
	arHeaderSize = 60
	// maxMembers bounds the members of a package file; one has three.
	maxMembers = 16
)

// arReader reads the outer format of a package, ar(5) as deb(5) narrows it:
// member names of at most 15 characters, no symbol table, no name table.
type arReader struct {
	r    io.Reader
	body *io.LimitedReader // of the current member
	pad  bool              // a newline follows the current member
	n    int
}

// arMember is the header of one member.
type arMember struct {
	Name string
	Size int64
}

// newArReader reads the magic.
func newArReader(r io.Reader) (*arReader, error) {
	magic := make([]byte, len(arMagic))
	if _, err := io.ReadFull(r, magic); err != nil {
		return nil, fmt.Errorf("read ar magic: %w", noEOF(err))
	}
	if string(magic) != arMagic {
		return nil, fmt.Errorf("not a Debian package: starts with %q, want %q", magic, arMagic)
	}
	return &arReader{r: r, body: &io.LimitedReader{R: r}}, nil
}

// next skips what is left of the current member and returns the next one,
// whose bytes [arReader.Read] then gives. After the last it returns io.EOF.
func (a *arReader) next() (arMember, error) {
	if _, err := io.Copy(io.Discard, a.body); err != nil {
		return arMember{}, err
	}
	if a.body.N > 0 {
		return arMember{}, io.ErrUnexpectedEOF
	}
	if err := a.skipPad(); err != nil {
		return arMember{}, err
	}
	var h [arHeaderSize]byte
	if _, err := io.ReadFull(a.r, h[:]); err == io.EOF {
		return arMember{}, io.EOF
	} else if err != nil {
		return arMember{}, fmt.Errorf("read ar header: %w", err)
	}
	if a.n++; a.n > maxMembers {
		return arMember{}, fmt.Errorf("more than %d ar members", maxMembers)
	}
	m, err := parseArHeader(h)
	if err != nil {
		return arMember{}, err
	}
	a.body.N, a.pad = m.Size, m.Size%2 == 1
	return m, nil
}

// skipPad reads the byte that follows a member of odd length. It is there after
// the last member, too.
func (a *arReader) skipPad() error {
	if !a.pad {
		return nil
	}
	var b [1]byte
	if _, err := io.ReadFull(a.r, b[:]); err != nil {
		return fmt.Errorf("read ar padding: %w", noEOF(err))
	}
	if b[0] != '\n' {
		return fmt.Errorf("ar padding: got %q, want a newline", b[0])
	}
	a.pad = false
	return nil
}

// Read reads from the current member. A member that the file cuts short ends in
// [io.ErrUnexpectedEOF].
func (a *arReader) Read(p []byte) (int, error) {
	n, err := a.body.Read(p)
	if err == io.EOF && a.body.N > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

// parseArHeader reads name and size, the only fields that dpkg gives a meaning.
func parseArHeader(h [arHeaderSize]byte) (arMember, error) {
	if string(h[58:]) != "`\n" {
		return arMember{}, fmt.Errorf("ar header: ends in %q, want %q", h[58:], "`\n")
	}
	name := strings.TrimSuffix(strings.TrimRight(string(h[:16]), " "), "/")
	if name == "" || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' || c == '/' }) {
		return arMember{}, fmt.Errorf("ar header: name %q", h[:16])
	}
	digits := strings.TrimRight(string(h[48:58]), " ")
	if strings.Trim(digits, "0123456789") != "" {
		return arMember{}, fmt.Errorf("ar header of %s: size %q", name, h[48:58])
	}
	size, err := strconv.ParseInt(digits, 10, 64)
	if err != nil {
		return arMember{}, fmt.Errorf("ar header of %s: size %q", name, h[48:58])
	}
	return arMember{Name: name, Size: size}, nil
}

// noEOF says that an end of file is too early where more must follow.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
