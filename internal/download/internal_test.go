package download

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// fullDisk has room for some bytes.
type fullDisk struct {
	w    io.Writer
	room *int
}

func (d fullDisk) Write(p []byte) (int, error) {
	n := min(len(p), *d.room)
	*d.room -= n
	if _, err := d.w.Write(p[:n]); err != nil {
		return 0, err
	}
	if n < len(p) {
		return n, syscall.ENOSPC
	}
	return n, nil
}

// U21
func TestAFullDiskKeepsWhatItHasAndGoesOnLater(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789abcdef"), 20_000)
	var ranges []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range"))
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(content))
	}))
	defer server.Close()
	h := sha256.Sum256(content)
	want := Want{SHA256: hex.EncodeToString(h[:])}
	room := len(content) * 8 / 10
	c := &Client{Cache: t.TempDir(), disk: func(w io.Writer) io.Writer { return fullDisk{w, &room} }}

	_, err := c.Get(t.Context(), "kubelet", []string{server.URL, server.URL}, want)
	if !errors.Is(err, syscall.ENOSPC) || Unreachable(err) || NotFound(err) {
		t.Errorf("got %v, want the full disk and no other kind", err)
	}
	for _, part := range []string{"disk full", "256000 bytes of kubelet are kept", "run it again"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("got %q, want it to say %q", err, part)
		}
	}
	room = len(content)
	f, err := c.Get(t.Context(), "kubelet", []string{server.URL}, want)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(f.Path); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	// The full disk was not taken for a fault of the first URL.
	if len(ranges) != 2 || ranges[0] != "" || ranges[1] != "bytes=256000-" {
		t.Errorf("got ranges %q", ranges)
	}
}

func TestParseContentRange(t *testing.T) {
	for s, want := range map[string]contentRange{
		"bytes 0-0/1":                   {0, 0, 1},
		"bytes 5-9/10":                  {5, 9, 10},
		"bytes 5-9/*":                   {5, 9, -1},
		"bytes */10":                    {-1, -1, 10},
		"bytes 0-9223372036854775806/*": {0, 9223372036854775806, -1},
	} {
		if got, err := parseContentRange(s); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", s, got, err, want)
		}
	}
	for _, s := range []string{
		"", "bytes", "bytes ", "bytes 5-9", "5-9/10", "items 5-9/10", "bytes=5-9/10", "bytes 9-5/10", "bytes 5-10/10",
		"bytes */*", "bytes -5/10", "bytes 5-/10", "bytes +5-9/10", "bytes 5-9/ 10", "bytes 0x5-9/10", "bytes 5-9/10/11",
		"bytes 0-9223372036854775808/*", "bytes 5-9/-1", "bytes 5-9,12-13/20",
	} {
		if got, err := parseContentRange(s); err == nil {
			t.Errorf("%q: got %+v, want an error", s, got)
		}
	}
}

func FuzzParseContentRange(f *testing.F) {
	for _, s := range []string{"bytes 5-9/10", "bytes */10", "bytes 5-9/*", "bytes 9-5/10", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		r, err := parseContentRange(s)
		if err != nil {
			return
		}
		unsatisfied := r.first == -1 && r.last == -1 && r.total >= 0
		satisfied := 0 <= r.first && r.first <= r.last && (r.total == -1 || r.last < r.total)
		if !unsatisfied && !satisfied {
			t.Errorf("%q: got %+v", s, r)
		}
		if again := strings.NewReplacer("/-1", "/*", "-1--1", "*").Replace(fmt.Sprintf("bytes %d-%d/%d", r.first, r.last, r.total)); len(again) > len(s) {
			t.Errorf("%q: read more than there is: %q", s, again)
		}
	})
}

func TestAnUnreadableNoteAboutAPartIsNoNote(t *testing.T) {
	path := t.TempDir() + "/part.json"
	for _, s := range []string{"", "{", "[]", `{"etag":5}`, strings.Repeat(" ", maxPartInfo+1) + `{"etag":"x"}`} {
		if err := os.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := readPartInfo(path); got != (partInfo{}) {
			t.Errorf("%.20q: got %+v", s, got)
		}
	}
	if err := os.WriteFile(path, []byte(`{"source":"s","etag":"\"v1\""}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := readPartInfo(path); got != (partInfo{"s", `"v1"`}) {
		t.Errorf("got %+v", got)
	}
}
