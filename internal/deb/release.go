package deb

import (
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imgctl/imgctl/internal/download"
)

// An ExpiredError says that a suite's release is past its Valid-Until: the
// mirror has not been updated, or somebody serves old packages on purpose.
type ExpiredError struct {
	Suite      string
	ValidUntil time.Time
	Now        time.Time
}

// Error is one line.
func (e *ExpiredError) Error() string {
	return fmt.Sprintf("release of %s has expired: valid until %s, now %s",
		e.Suite, e.ValidUntil.UTC().Format(time.RFC3339), e.Now.UTC().Format(time.RFC3339))
}

// release is the signed part of an InRelease file.
type release struct {
	Suite, Codename string
	Date            time.Time
	ValidUntil      time.Time // zero: for ever
	ByHash          bool
	Architectures   []string
	Components      []string
	Files           map[string]indexFile // by path relative to the suite's directory
}

// indexFile is one line of a release's SHA256 field.
type indexFile struct {
	Size   int64
	SHA256 string
}

// parseRelease parses the text of a Release file (https://wiki.debian.org/DebianRepository/Format).
func parseRelease(text []byte) (*release, error) {
	s, err := onlyStanza(text)
	if err != nil {
		return nil, fmt.Errorf("parse InRelease: %w", err)
	}
	r := &release{
		Suite:         s.get("Suite"),
		Codename:      s.get("Codename"),
		ByHash:        s.get("Acquire-By-Hash") == "yes",
		Architectures: s.words("Architectures"),
		Components:    s.words("Components"),
	}
	if r.Date, err = parseDate(s.get("Date")); err != nil {
		return nil, fmt.Errorf("parse InRelease: Date: %w", err)
	}
	if until := s.get("Valid-Until"); until != "" {
		if r.ValidUntil, err = parseDate(until); err != nil {
			return nil, fmt.Errorf("parse InRelease: Valid-Until: %w", err)
		}
	}
	if r.Files, err = parseSums(s.get("SHA256")); err != nil {
		return nil, fmt.Errorf("parse InRelease: SHA256: %w", err)
	}
	return r, nil
}

// parseDate reads a date such as "Sat, 12 Sep 2026 07:55:41 UTC". Only UTC is
// allowed by the format: Go would read another zone's name as UTC as well.
func parseDate(s string) (time.Time, error) {
	for _, layout := range []string{"Mon, 02 Jan 2006 15:04:05 UTC", "Mon, 2 Jan 2006 15:04:05 UTC", "Mon, 02 Jan 2006 15:04:05 +0000"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("got %.60q, want a date such as %q", s, "Sat, 12 Sep 2026 07:55:41 UTC")
}

// parseSums parses lines of " <sha256> <size> <path>".
func parseSums(value string) (map[string]indexFile, error) {
	files := make(map[string]indexFile)
	for line := range strings.Lines(value) {
		w := strings.Fields(line)
		if len(w) == 0 {
			continue
		}
		if len(w) != 3 || !isHex(w[0], 64) || !fs.ValidPath(w[2]) {
			return nil, fmt.Errorf("got %.120q, want digest, size and path", strings.TrimSpace(line))
		}
		size, err := strconv.ParseInt(w[1], 10, 64)
		if err != nil || size < 0 {
			return nil, fmt.Errorf("size of %s: got %.20q", w[2], w[1])
		}
		f := indexFile{Size: size, SHA256: w[0]}
		if old, ok := files[w[2]]; ok && old != f {
			return nil, fmt.Errorf("%s is listed twice, with different contents", w[2])
		}
		files[w[2]] = f
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no file is listed")
	}
	return files, nil
}

// check compares what the release says of itself with what was asked for. The
// name counts: any suite that the archive signs is signed by the same keys.
func (r *release) check(suite string, arches []string) error {
	if suite != r.Suite && suite != r.Codename {
		return &download.Mismatch{Object: "InRelease", What: "suite", Got: r.Suite + " (" + r.Codename + ")", Want: suite}
	}
	// The security archive calls its components "updates/main", and that only here:
	// the paths of its indexes are like those of the main archive.
	if !slices.Contains(r.Components, component) && !slices.Contains(r.Components, "updates/"+component) {
		return &download.Mismatch{Object: "InRelease", What: "components", Got: strings.Join(r.Components, " "), Want: component}
	}
	for _, arch := range arches {
		if !slices.Contains(r.Architectures, arch) {
			return &download.Mismatch{Object: "InRelease", What: "architectures", Got: strings.Join(r.Architectures, " "), Want: arch}
		}
	}
	return nil
}

// checkDates compares the release's dates with now. An expired release is an
// [*ExpiredError], unless unsafeExpired allows one.
func (r *release) checkDates(now time.Time, unsafeExpired bool) error {
	if r.Date.After(now.Add(maxAhead)) {
		return fmt.Errorf("release of %s is dated %s, which is in the future: now %s",
			r.Codename, r.Date.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	if !r.ValidUntil.IsZero() && now.After(r.ValidUntil) && !unsafeExpired {
		return &ExpiredError{Suite: r.Codename, ValidUntil: r.ValidUntil, Now: now}
	}
	return nil
}
