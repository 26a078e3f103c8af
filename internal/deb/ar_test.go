package deb

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
)

// member returns one ar member whose header fields are as given.
func member(name, size, end, body string) string {
	return fmt.Sprintf("%-16s%-12d%-6d%-6d%-8s%-10s%s%s", name, 0, 0, 0, "100644", size, end, body)
}

const arEnd = "`\n"

// readAr returns the members and their bodies.
func readAr(data string) (names, bodies []string, err error) {
	a, err := newArReader(strings.NewReader(data))
	if err != nil {
		return nil, nil, err
	}
	for {
		m, err := a.next()
		if err == io.EOF {
			return names, bodies, nil
		}
		if err != nil {
			return names, bodies, err
		}
		body, err := io.ReadAll(a)
		if err != nil {
			return names, bodies, err
		}
		if int64(len(body)) != m.Size {
			return names, bodies, fmt.Errorf("%s has %d bytes, want %d", m.Name, len(body), m.Size)
		}
		names, bodies = append(names, m.Name), append(bodies, string(body))
	}
}

func TestArMembersAreRead(t *testing.T) {
	names, bodies, err := readAr(arMagic + member("one", "3", arEnd, "abc\n") + member("two/", "2", arEnd, "de") + member("three", "0", arEnd, ""))
	if err != nil || strings.Join(names, " ") != "one two three" || strings.Join(bodies, "|") != "abc|de|" {
		t.Errorf("got %q %q %v", names, bodies, err)
	}
}

func TestArMembersThatAreNotReadAreSkipped(t *testing.T) {
	a, err := newArReader(strings.NewReader(arMagic + member("one", "5", arEnd, "abcde\n") + member("two", "2", arEnd, "fg")))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.next(); err != nil {
		t.Fatal(err)
	}
	if m, err := a.next(); err != nil || m.Name != "two" {
		t.Fatalf("got %v, %v", m, err)
	}
	if body, err := io.ReadAll(a); err != nil || string(body) != "fg" {
		t.Errorf("got %q, %v", body, err)
	}
}

func TestArThatIsNoneIsRefused(t *testing.T) {
	good := member("one", "3", arEnd, "abc\n")
	for name, tt := range map[string]struct{ data, want string }{
		"nothing":               {"", "read ar magic"},
		"an error page":         {"<!DOCTYPE html>", "not a Debian package"},
		"thin archive":          {"!<thin>\n" + good, "not a Debian package"},
		"cut header":            {arMagic + good[:59], "read ar header"},
		"cut body":              {arMagic + member("one", "9", arEnd, "abc"), io.ErrUnexpectedEOF.Error()},
		"no padding":            {arMagic + member("one", "3", arEnd, "abc"), "read ar padding"},
		"other padding":         {arMagic + member("one", "3", arEnd, "abcX") + good, "ar padding"},
		"end of header":         {arMagic + member("one", "3", "``", "abc\n"), "ar header: ends in"},
		"no name":               {arMagic + member("", "3", arEnd, "abc\n"), "ar header: name"},
		"only a slash":          {arMagic + member("/", "3", arEnd, "abc\n"), "ar header: name"},
		"name table":            {arMagic + member("//", "3", arEnd, "abc\n"), "ar header: name"},
		"path":                  {arMagic + member("../x", "3", arEnd, "abc\n"), "ar header: name"},
		"NUL in the name":       {arMagic + member("a\x00b", "3", arEnd, "abc\n"), "ar header: name"},
		"negative size":         {arMagic + member("one", "-1", arEnd, ""), "size"},
		"size with a sign":      {arMagic + member("one", "+3", arEnd, "abc\n"), "size"},
		"size in hexadecimal":   {arMagic + member("one", "0x3", arEnd, "abc\n"), "size"},
		"no size":               {arMagic + member("one", "", arEnd, ""), "size"},
		"blank within the size": {arMagic + member("one", "1 2", arEnd, "abc\n"), "size"},
		"too many members":      {arMagic + strings.Repeat(good, maxMembers+1), "more than 16 ar members"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := readAr(tt.data); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
	if names, _, err := readAr(arMagic + strings.Repeat(good, maxMembers)); err != nil || len(names) != maxMembers {
		t.Errorf("as many members as allowed: got %d, %v", len(names), err)
	}
}

func FuzzAr(f *testing.F) {
	f.Add([]byte(arMagic))
	f.Add([]byte(arMagic + member("debian-binary", "4", arEnd, "2.0\n") + member("control.tar", "3", arEnd, "abc\n")))
	f.Add([]byte(arMagic + member("one", "999999999", arEnd, "abc")))
	f.Fuzz(func(t *testing.T, data []byte) {
		names, bodies, err := readAr(string(data))
		if err != nil {
			return
		}
		total := len(arMagic)
		for i := range names {
			total += arHeaderSize + len(bodies[i]) + len(bodies[i])%2
		}
		if total != len(data) {
			t.Errorf("%d members of %d bytes in a file of %d", len(names), total, len(data))
		}
	})
}

func FuzzUnpack(f *testing.F) {
	f.Add([]byte(arMagic + member("debian-binary", "4", arEnd, "2.0\n") + member("control.tar", "0", arEnd, "") + member("data.tar", "0", arEnd, "")))
	f.Fuzz(func(t *testing.T, data []byte) {
		seen := make(map[string]bool)
		err := unpack(bytes.NewReader(data), func(m Member) error {
			key := fmt.Sprint(m.Control, m.Header.Name)
			if clean, why := cleanName(m.Header.Name); why != "" || clean != m.Header.Name || seen[key] {
				return fmt.Errorf("entry %q: %q, seen %t: %w", m.Header.Name, why, seen[key], errBadEntry)
			}
			seen[key] = true
			_, err := io.Copy(io.Discard, m.Body)
			return err
		})
		if errors.Is(err, errBadEntry) {
			t.Error(err)
		}
	})
}

var errBadEntry = errors.New("an entry that should have been refused")
