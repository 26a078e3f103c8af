// Package secrets finds what must not be in anything public: private keys, tokens,
// passwords and the like, by their shape, in plain text and in the encodings in
// which they travel by mistake, also one inside another.
//
// It looks for shapes, so it cannot know a password that stands for itself; what
// the caller knows to be secret it may give to [Find], which then looks for that
// too. Nothing of a secret is in a [Finding].
package secrets

import (
	"bytes"
	"strconv"
	"strings"
)

// Finding is a secret that was found.
type Finding struct {
	What      string   // "a private key"
	Line      int      // 1-based, of the data that was given
	Encodings []string // in which it was, the outermost first; none: in plain text
}

// String says it in a few words.
func (f Finding) String() string {
	s := "line " + strconv.Itoa(f.Line) + " holds " + f.What
	if len(f.Encodings) > 0 {
		s += " in " + strings.Join(f.Encodings, ", in it ")
	}
	return s
}

// Limits of the search. What exceeds them is a finding: nobody has looked at it.
const (
	maxDepth = 4        // of base64, hexadecimal digits and gzip within each other
	maxBytes = 64 << 20 // of all that was decoded
)

// minKnown is the length from which on a known secret is told from chance.
const minKnown = 8

// view is the data, or what a part of it stands for in some encoding.
type view struct {
	data      []byte
	line      int // of the data, where it begins
	encodings []string
	depth     int // how many of the encodings count for maxDepth
}

// Find returns the first secret in data, or nil. Besides the shapes it looks for
// the known secrets, of which those shorter than 8 bytes are left out.
func Find(data []byte, known ...string) *Finding {
	views := []view{{data: data, line: 1}}
	total := 0
	for len(views) > 0 {
		v := views[0]
		views = views[1:]
		if f := v.find(known); f != nil {
			return f
		}
		for _, w := range v.peel() {
			total += len(w.data)
			if w.depth > maxDepth && len(w.data) >= minCertain || total > maxBytes {
				return &Finding{What: "more encodings within each other than are looked through", Line: v.line, Encodings: v.encodings}
			}
			if w.depth <= maxDepth {
				views = append(views, w)
			}
		}
	}
	return nil
}

// find looks at the view as it is.
func (v view) find(known []string) *Finding {
	at, what := -1, ""
	for _, k := range known {
		if i := bytes.Index(v.data, []byte(k)); i >= 0 && len(k) >= minKnown {
			at, what = i, "a known secret"
		}
	}
	for _, s := range shapes {
		if i := s.find(v.data); i >= 0 {
			at, what = i, s.what
			break
		}
	}
	if at < 0 {
		return nil
	}
	return &Finding{What: what, Line: v.lineAt(at), Encodings: v.encodings}
}

// lineAt is the line of the data that was given. What is decoded has that of
// where its encoding begins.
func (v view) lineAt(offset int) int {
	if len(v.encodings) > 0 {
		return v.line
	}
	return 1 + bytes.Count(v.data[:offset], []byte("\n"))
}
