package secrets

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"io"
	"slices"
	"strconv"
)

// What is told from chance. A secret is longer than each of them.
const (
	minText    = 8  // bytes of text in a row within what was decoded
	minCertain = 24 // bytes of text in a row that no chance gives
	minVaried  = 4  // different bytes in a text
	minBase64  = 14 // digits in a row
	minHex     = 24
	wrapped    = 40 // digits in a line from which on the next line may go on with them
)

// again is how often an escape is looked for within what it has given. Text is
// easily taken for escaped text, so it does not count for maxDepth.
const again = 3

// peel returns what the view, or parts of it, stand for in each encoding. What
// stands for nothing that could be read gives nothing.
func (v view) peel() []view {
	inner := v.rewritten(nil, "UTF-16", 1, withoutNUL)
	if len(v.encodings) == 0 {
		inner = v.rewritten(inner, "reverse", 1, reversed)
	}
	inner = v.rewritten(inner, "URL escapes", 1, func(data []byte) []byte { return unescaped(data, '%', urlEscape) })
	inner = v.rewritten(inner, "a URL's form", 1, formDecoded)
	inner = v.rewritten(inner, "escapes", again, func(data []byte) []byte { return unescaped(data, '\\', textEscape) })
	inner = append(inner, v.digits("base64", isBase64, minBase64, fromBase64)...)
	inner = append(inner, v.digits("hexadecimal", isHex, minHex, fromHex)...)
	return append(inner, v.inflated()...)
}

// rewritten adds the whole view as it is without an encoding, unless that makes
// no difference or was done so many times already.
func (v view) rewritten(inner []view, encoding string, most int, rewrite func([]byte) []byte) []view {
	for _, e := range v.encodings {
		if e == encoding {
			most--
		}
	}
	if most <= 0 {
		return inner
	}
	data := rewrite(v.data)
	if data == nil {
		return inner
	}
	return append(inner, view{data, v.line, v.within(encoding), v.depth})
}

func (v view) within(encoding string) []string { return append(slices.Clone(v.encodings), encoding) }

// reversed returns text back to front.
func reversed(data []byte) []byte {
	back := bytes.Clone(data)
	slices.Reverse(back)
	return back
}

// withoutNUL turns UTF-16 of either order into ASCII, as far as it is.
func withoutNUL(data []byte) []byte {
	if n := bytes.Count(data, []byte{0}); n == 0 || n < len(data)/8 {
		return nil
	}
	return bytes.ReplaceAll(data, []byte{0}, nil)
}

// unescaped replaces every escape that starts with mark; nil when there is none.
func unescaped(data []byte, mark byte, escape func([]byte) (plain byte, size int)) []byte {
	if bytes.IndexByte(data, mark) < 0 {
		return nil
	}
	var out []byte
	changed := false
	for i := 0; i < len(data); {
		if data[i] == mark {
			if plain, size := escape(data[i:]); size > 0 {
				out, i, changed = append(out, plain), i+size, true
				continue
			}
		}
		out, i = append(out, data[i]), i+1
	}
	if !changed {
		return nil
	}
	return out
}

// formDecoded is what a form sends, where a plus stands for a space.
func formDecoded(data []byte) []byte {
	if bytes.IndexByte(data, '+') < 0 {
		return nil
	}
	spaced := bytes.ReplaceAll(data, []byte("+"), []byte(" "))
	if plain := unescaped(spaced, '%', urlEscape); plain != nil {
		return plain
	}
	return spaced
}

func urlEscape(data []byte) (byte, int) { return number(data, 1, 2) }

// textEscape knows the escapes of JSON and those of strings in C.
func textEscape(data []byte) (byte, int) {
	if len(data) < 2 {
		return 0, 0
	}
	switch c := data[1]; c {
	case 'n':
		return '\n', 2
	case 'r':
		return '\r', 2
	case 't':
		return '\t', 2
	case '"', '\'', '/', '\\':
		return c, 2
	case 'x':
		return number(data, 2, 2)
	case 'u':
		if bytes.HasPrefix(data[2:], []byte("00")) {
			return number(data, 4, 2)
		}
	}
	return 0, 0
}

// number reads hexadecimal digits of an escape.
func number(data []byte, at, digits int) (byte, int) {
	if len(data) < at+digits {
		return 0, 0
	}
	n, err := strconv.ParseUint(string(data[at:at+digits]), 16, 8)
	if err != nil {
		return 0, 0
	}
	return byte(n), at + digits
}

// digits decodes every run of digits that is long enough. A run may go on in the
// next line, as tools break it.
func (v view) digits(encoding string, is *[256]bool, least int, decode func(run []byte) [][]byte) []view {
	var inner []view
	for i := 0; i < len(v.data); {
		if !is[v.data[i]] {
			i++
			continue
		}
		run, end := runOf(v.data, i, is)
		if len(run) >= least {
			line := 0
			for _, data := range decode(run) {
				for _, part := range texts(data) {
					if line == 0 {
						line = v.lineAt(i)
					}
					inner = append(inner, view{part, line, v.within(encoding), v.depth + 1})
				}
			}
		}
		i = end
	}
	return inner
}

// runOf returns the digits from start on, and where they end.
func runOf(data []byte, start int, is *[256]bool) (run []byte, end int) {
	first := start
	for {
		end = first
		for end < len(data) && is[data[end]] {
			end++
		}
		next := end
		if end-first >= wrapped {
			next = nextLine(data, end)
		}
		if next == end || next == len(data) || !is[data[next]] {
			if run == nil {
				return data[start:end], end
			}
			return append(run, data[first:end]...), end
		}
		run = append(run, data[first:end]...)
		first = next
	}
}

// nextLine returns where the text of the next line begins, if at is the end of a line.
func nextLine(data []byte, at int) int {
	i := at
	for i < len(data) && data[i] == '\r' {
		i++
	}
	if i == len(data) || data[i] != '\n' {
		return at
	}
	for i < len(data) && (data[i] == '\n' || data[i] == ' ' || data[i] == '\t') {
		i++
	}
	return i
}

var (
	isBase64 = table("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_")
	isHex    = table("0123456789abcdefABCDEF")
	isText   = table("\t\n\r\x00 !\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~")
)

func table(of string) *[256]bool {
	var t [256]bool
	for _, b := range []byte(of) {
		t[b] = true
	}
	return &t
}

// fromBase64 decodes a run at each of the four places where a group of digits can
// begin: what stands before the secret may be digits too.
func fromBase64(run []byte) (all [][]byte) {
	standard := bytes.Map(func(r rune) rune {
		switch r {
		case '-':
			return '+'
		case '_':
			return '/'
		}
		return r
	}, run)
	for start := range min(4, len(standard)) {
		part := standard[start:]
		if len(part)%4 == 1 {
			part = part[:len(part)-1]
		}
		data := make([]byte, base64.RawStdEncoding.DecodedLen(len(part)))
		if n, err := base64.RawStdEncoding.Decode(data, part); err == nil {
			all = append(all, data[:n])
		}
	}
	return all
}

// fromHex decodes a run from its first and from its second digit on.
func fromHex(run []byte) (all [][]byte) {
	for start := range 2 {
		part := run[start:]
		part = part[:len(part)/2*2]
		data := make([]byte, len(part)/2)
		if _, err := hex.Decode(data, part); err == nil {
			all = append(all, data)
		}
	}
	return all
}

// gzipMagic begins every member of gzip that is deflated.
var gzipMagic = []byte{0x1f, 0x8b, 8}

// texts returns what of the data is text, and all of it from where gzip begins:
// nothing else can be a secret, and most of what is decoded never was encoded.
func texts(data []byte) (all [][]byte) {
	if i := bytes.Index(data, gzipMagic); i >= 0 {
		all = append(all, data[i:])
	}
	for i := 0; i < len(data); {
		end := i
		for end < len(data) && isText[data[end]] {
			end++
		}
		if end-i >= minText && varied(data[i:end]) {
			all = append(all, data[i:end])
		}
		i = end + 1
	}
	return all
}

// varied tells text from padding, such as digits that are all zero.
func varied(text []byte) bool {
	seen := make([]byte, 0, minVaried)
	for _, b := range text {
		if b == 0 || bytes.IndexByte(seen, b) >= 0 {
			continue
		}
		if seen = append(seen, b); len(seen) == minVaried {
			return true
		}
	}
	return false
}

// inflated returns what is compressed with gzip.
func (v view) inflated() []view {
	var inner []view
	for from := 0; ; {
		i := bytes.Index(v.data[from:], gzipMagic)
		if i < 0 {
			return inner
		}
		at := from + i
		from = at + len(gzipMagic)
		z, err := gzip.NewReader(bytes.NewReader(v.data[at:]))
		if err != nil {
			continue
		}
		// What could be read before a mistake counts as well.
		data, _ := io.ReadAll(io.LimitReader(z, maxBytes+1))
		if len(data) > 0 {
			inner = append(inner, view{data, v.lineAt(at), v.within("gzip"), v.depth + 1})
		}
	}
}
