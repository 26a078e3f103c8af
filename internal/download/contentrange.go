package download

import (
	"fmt"
	"strconv"
	"strings"
)

// contentRange is the value of a Content-Range header (RFC 9110, 14.4).
type contentRange struct {
	first, last int64 // inclusive; both -1 in the form of an unsatisfied range, "bytes */123"
	total       int64 // -1 when the server does not know, "bytes 0-1/*"
}

// parseContentRange reads the two forms of the header for the unit "bytes".
// What it accepts satisfies 0 <= first <= last, and last < total when total is known.
func parseContentRange(s string) (contentRange, error) {
	bad := fmt.Errorf("Content-Range: got %.80q, want \"bytes first-last/total\"", s)
	rest, ok := strings.CutPrefix(s, "bytes ")
	if !ok {
		return contentRange{}, bad
	}
	span, size, ok := strings.Cut(rest, "/")
	if !ok {
		return contentRange{}, bad
	}
	r := contentRange{first: -1, last: -1, total: -1}
	if size != "*" {
		if r.total, ok = digits(size); !ok {
			return contentRange{}, bad
		}
	}
	if span == "*" {
		if r.total < 0 {
			return contentRange{}, bad
		}
		return r, nil
	}
	first, last, ok := strings.Cut(span, "-")
	if !ok {
		return contentRange{}, bad
	}
	var ok1, ok2 bool
	r.first, ok1 = digits(first)
	r.last, ok2 = digits(last)
	if !ok1 || !ok2 || r.first > r.last || r.total >= 0 && r.last >= r.total {
		return contentRange{}, bad
	}
	return r, nil
}

// digits reads a number as the header spells it: no sign, no space.
func digits(s string) (int64, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}
