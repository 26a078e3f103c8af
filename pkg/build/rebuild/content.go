package rebuild

import (
	"archive/tar"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/build/layer"
	"github.com/imgctl/imgctl/pkg/oci"
)

// maxContent bounds what a published layer decompresses to.
const maxContent = 8 << 30

// diffLayers returns the first difference of two layers that are not the same
// bytes: of what is in them, or else of how that is written down or compressed.
func diffLayers(published, rebuilt v1.Layer) (*Difference, error) {
	for _, diff := range []func(published, rebuilt io.Reader) (*Difference, error){diffFiles, diffArchives} {
		if d, err := withContents(published, rebuilt, diff); d != nil || err != nil {
			return d, err
		}
	}
	return diffCompression(published, rebuilt)
}

// withContents calls diff with the contents of both layers. That those of the
// published one cannot be read is a difference, unless the place where it is
// published is the reason.
func withContents(published, rebuilt v1.Layer, diff func(published, rebuilt io.Reader) (*Difference, error)) (*Difference, error) {
	b, err := rebuilt.Uncompressed()
	if err != nil {
		return nil, err
	}
	defer b.Close()
	served, err := published.Compressed()
	if err != nil {
		return nil, err
	}
	defer served.Close()
	mediaType, err := published.MediaType()
	if err != nil {
		return nil, err
	}
	from := &servedReader{r: served}
	var d *Difference
	a, err := layer.Decompress(from, mediaType, maxContent)
	if err == nil {
		d, err = diff(a, b)
		a.Close()
	} else {
		err = &unreadable{err}
	}
	var theirs *unreadable
	switch {
	case from.err != nil:
		return nil, from.err
	case errors.As(err, &theirs):
		return &Difference{Field: "archive", Pair: Pair{fmt.Sprintf("%.300s", theirs.err), "a tar archive"}}, nil
	}
	return d, err
}

// servedReader reads what a place serves, whatever its digest, and remembers why
// the place could not go on.
type servedReader struct {
	r   io.Reader
	err error
}

// Read implements [io.Reader].
func (s *servedReader) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	var other *oci.DigestError
	switch {
	case errors.As(err, &other):
		err = io.EOF
	case err != nil && err != io.EOF:
		s.err = err
	}
	return n, err
}

// unreadable is an error in the content of a published layer.
type unreadable struct{ err error }

func (u *unreadable) Error() string { return u.err.Error() }
func (u *unreadable) Unwrap() error { return u.err }

// diffFiles compares two tar archives, entry by entry.
func diffFiles(published, rebuilt io.Reader) (*Difference, error) {
	a, b := tar.NewReader(published), tar.NewReader(rebuilt)
	for {
		x, err := a.Next()
		if err != nil && err != io.EOF {
			return nil, &unreadable{err}
		}
		y, err := b.Next()
		if err != nil && err != io.EOF {
			return nil, err
		}
		switch {
		case x == nil && y == nil:
			return nil, nil
		case x == nil:
			return &Difference{Field: "entry", File: y.Name, Pair: Pair{Rebuilt: y.Name}}, nil
		case y == nil:
			return &Difference{Field: "entry", File: x.Name, Pair: Pair{Published: x.Name}}, nil
		}
		if d, err := diffEntry(x, y, a, b); d != nil || err != nil {
			return d, err
		}
	}
}

// diffEntry compares two entries. Their order is that of what a reader wants to
// know first: which file it is, its content, what else is said about it.
func diffEntry(x, y *tar.Header, a, b io.Reader) (*Difference, error) {
	first := func(fields func(*tar.Header) []field) *Difference {
		for i, f := range fields(x) {
			if g := fields(y)[i]; f != g {
				return &Difference{File: x.Name, Field: f.name, Pair: Pair{f.value, g.value}}
			}
		}
		return nil
	}
	if d := first(identity); d != nil {
		return d, nil
	}
	s, err := diffStreams(a, b)
	if err != nil {
		return nil, err
	}
	if s != nil {
		return s.difference(x.Name, "content"), nil
	}
	return first(properties), nil
}

// field is something that a tar header says.
type field struct{ name, value string }

func identity(h *tar.Header) []field {
	return []field{{"entry", h.Name}, {"type", strconv.QuoteRune(rune(h.Typeflag))}, {"target", h.Linkname}}
}

func properties(h *tar.Header) []field {
	var records []string
	for _, key := range slices.Sorted(maps.Keys(h.PAXRecords)) {
		records = append(records, fmt.Sprintf("%s=%x", key, h.PAXRecords[key]))
	}
	return []field{
		{"mode", fmt.Sprintf("%04o", h.Mode)},
		{"owner", fmt.Sprintf("%d:%d %q:%q", h.Uid, h.Gid, h.Uname, h.Gname)},
		{"time", h.ModTime.UTC().Format(time.RFC3339Nano)},
		{"device", fmt.Sprintf("%d:%d", h.Devmajor, h.Devminor)},
		{"attributes", fmt.Sprintf("%.200q", records)},
	}
}

// span is where two streams differ.
type span struct {
	Range
	published, rebuilt []byte // what they begin with there
}

// maxShown is how many bytes of content a difference shows.
const maxShown = 16

// difference returns the span as a difference of a file, "" for none.
func (s *span) difference(file, what string) *Difference {
	return &Difference{File: file, Field: what, Range: &s.Range, Pair: Pair{hex.EncodeToString(s.published), hex.EncodeToString(s.rebuilt)}}
}

// diffStreams compares two streams to their ends; nil when they are equal. What
// only one of them has is a difference.
func diffStreams(published, rebuilt io.Reader) (*span, error) {
	const size = 64 << 10
	a, b := make([]byte, size), make([]byte, size)
	var s *span
	for offset := int64(0); ; offset += size {
		n, err := fill(published, a)
		if err != nil {
			return nil, &unreadable{err}
		}
		m, err := fill(rebuilt, b)
		if err != nil {
			return nil, err
		}
		s = s.extend(offset, a[:n], b[:m])
		if n < size && m < size {
			return s, nil
		}
	}
}

// fill reads until p is full or r ends. Unlike [io.ReadFull] it tells an end that
// r did not expect from the one where r has ended.
func fill(r io.Reader, p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m, err := r.Read(p[n:])
		n += m
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// extend adds what differs in two chunks that begin at offset.
func (s *span) extend(offset int64, a, b []byte) *span {
	from, to := len(a), 0
	for i := range min(len(a), len(b)) {
		if a[i] != b[i] {
			from, to = min(from, i), i+1
		}
	}
	if len(a) != len(b) {
		from, to = min(from, len(b)), max(len(a), len(b))
	}
	if to == 0 {
		from = 0
	}
	if s == nil {
		if to == 0 {
			return nil
		}
		s = &span{Range: Range{From: offset + int64(from)}}
	} else {
		from = 0
	}
	if to > 0 {
		s.To = offset + int64(to)
	}
	s.published = show(s.published, a, from)
	s.rebuilt = show(s.rebuilt, b, from)
	return s
}

// show adds the chunk from the given place to what is shown.
func show(shown, chunk []byte, from int) []byte {
	from = min(from, len(chunk))
	return append(shown, chunk[from:min(len(chunk), from+maxShown-len(shown))]...)
}

// diffArchives compares the archives byte by byte, whose entries are all equal.
func diffArchives(published, rebuilt io.Reader) (*Difference, error) {
	s, err := diffStreams(published, rebuilt)
	if s == nil || err != nil {
		return nil, err
	}
	return s.difference("", "archive"), nil
}

// diffCompression says how the compressed forms of the same archive differ.
func diffCompression(published, rebuilt v1.Layer) (*Difference, error) {
	d := &Difference{Field: "compression"}
	for side, l := range map[*string]v1.Layer{&d.Published: published, &d.Rebuilt: rebuilt} {
		mediaType, err := l.MediaType()
		if err != nil {
			return nil, err
		}
		size, err := l.Size()
		if err != nil {
			return nil, err
		}
		*side = fmt.Sprintf("%d bytes of %.100s", size, mediaType)
	}
	return d, nil
}
