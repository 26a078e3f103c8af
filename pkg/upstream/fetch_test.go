package upstream_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/upstream"
)

func TestAFirstLookFindsEveryProofAndTheNextOneNeedsNoNetwork(t *testing.T) {
	for _, path := range []string{tarball, kubelet} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			w := publish(t, imgtest.Signing{})
			b, err := w.client.Fetch(t.Context(), upstream.Pin{Path: path}, []upstream.Proof{upstream.Signature})
			must(t, err)
			if want := []upstream.Proof{upstream.Checksum, upstream.Signature}; !slices.Equal(b.Proofs, want) {
				t.Errorf("got proofs %v, want %v", b.Proofs, want)
			}
			got, err := os.ReadFile(b.File)
			must(t, err)
			want, err := os.ReadFile(filepath.Join(w.dir, path))
			must(t, err)
			if !bytes.Equal(got, want) {
				t.Error("the file in the cache is not the one that is served")
			}

			// As a lock would keep it.
			data, err := json.Marshal(b.Pin)
			must(t, err)
			var pin upstream.Pin
			must(t, json.Unmarshal(data, &pin))
			w.Requests()
			again, err := w.offline(t).Fetch(t.Context(), pin, both())
			must(t, err)
			if !slices.Equal(again.Proofs, both()) || again.URL != "" {
				t.Errorf("got proofs %v from %q, want %v from the cache", again.Proofs, again.URL, both())
			}
			if r := w.Requests(); len(r) > 0 {
				t.Errorf("asked for %v", r)
			}
		})
	}
}

// The evidence is also kept beside the cached file, for a pin that has none.
func TestStoredEvidenceIsEnough(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	b, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, nil)
	must(t, err)
	bare := upstream.Pin{Path: kubelet, SHA512: b.SHA512}
	again, err := w.offline(t).Fetch(t.Context(), bare, both())
	must(t, err)
	if again.Evidence == nil || again.SHA256 != b.SHA256 || again.Size != b.Size {
		t.Errorf("got an incomplete pin: %+v", again.Pin)
	}

	// Damaged, or good for another file only, it is looked up again.
	path := filepath.Join(w.client.Download.Cache, "evidence", b.SHA256+".json")
	other, err := w.client.Fetch(t.Context(), upstream.Pin{Path: tarball}, nil)
	must(t, err)
	foreign, err := json.Marshal(other.Evidence)
	must(t, err)
	for _, bad := range []string{"", "{}", "not json", string(foreign)} {
		must(t, os.WriteFile(path, []byte(bad), 0o644))
		if _, err := w.client.Fetch(t.Context(), bare, both()); err != nil {
			t.Errorf("with %.20q stored: %v", bad, err)
		}
		data, err := os.ReadFile(path)
		must(t, err)
		if _, err := upstream.ParseEvidence(data); err != nil {
			t.Errorf("after %.20q: %v", bad, err)
		}
	}
}

// A pinned build asks for nothing that it does not owe, and says what it has.
func TestAPinThatOwesNoSignatureAsksForNone(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	b, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, nil)
	must(t, err)
	w.client = w.newClient(t)
	w.Requests()
	got, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet, SHA512: b.SHA512}, []upstream.Proof{upstream.Pinned})
	must(t, err)
	if want := []string{"GET " + kubelet}; !slices.Equal(w.Requests(), want) {
		t.Errorf("want only %v", want)
	}
	if !slices.Equal(got.Proofs, []upstream.Proof{upstream.Pinned}) || got.Evidence != nil {
		t.Errorf("got %v", got.Proofs)
	}
	// With evidence in the pin the signature is found though it is not owed.
	got, err = w.offline(t).Fetch(t.Context(), b.Pin, []upstream.Proof{upstream.Checksum})
	must(t, err)
	if !slices.Equal(got.Proofs, both()) {
		t.Errorf("got %v, want %v", got.Proofs, both())
	}
}

// U01, U19: the file and what is published about it disagree.
func TestOtherBytesAreAMismatchAndLeaveNoFile(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	good, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, nil)
	must(t, err)
	for name, tt := range map[string]struct {
		spoil func(*world)
		pin   upstream.Pin
		what  string
		want  string
	}{
		"flipped bit, published checksums": {
			spoil: func(w *world) { w.Flip(kubelet, 30_000) },
			pin:   upstream.Pin{Path: kubelet}, what: "sha256", want: good.SHA256,
		},
		"flipped bit, pinned": {
			spoil: func(w *world) { w.Flip(kubelet, 0x40) },
			pin:   upstream.Pin{Path: kubelet, SHA512: good.SHA512}, what: "sha512", want: good.SHA512,
		},
		"sha256 agrees, sha512 does not": {
			spoil: func(w *world) { w.Replace(kubelet+".sha512", []byte(strings.Repeat("ab", 64))) },
			pin:   upstream.Pin{Path: kubelet}, what: "sha512", want: strings.Repeat("ab", 64),
		},
		"sha512 agrees, sha256 does not": {
			spoil: func(w *world) { w.Replace(kubelet+".sha256", []byte(strings.Repeat("ab", 32))) },
			pin:   upstream.Pin{Path: kubelet}, what: "sha256", want: strings.Repeat("ab", 32),
		},
		"another file, pinned": {
			spoil: func(w *world) { w.Replace(kubelet, []byte("\x7fELF but another one")) },
			pin:   upstream.Pin{Path: kubelet, SHA256: good.SHA256, Size: good.Size}, what: "size", want: fmt.Sprint(good.Size),
		},
	} {
		t.Run(name, func(t *testing.T) {
			tt.spoil(w)
			defer func() {
				for _, ext := range []string{"", ".sha256", ".sha512"} {
					w.Script(kubelet+ext, nil)
				}
			}()
			c := w.newClient(t)
			_, err := c.Fetch(t.Context(), tt.pin, nil)
			var m *download.Mismatch
			if !errors.As(err, &m) || m.What != tt.what || m.Want != tt.want || m.Got == "" || m.Got == m.Want {
				t.Errorf("got %v, want a mismatch of the %s that names both", err, tt.what)
			}
			if files := cached(t, c); len(files) > 0 {
				t.Errorf("the cache holds %v", files)
			}
		})
	}
}

// U02: one half of a release is not a mismatch and not an absent release.
func TestHalfAReleaseIsIncomplete(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	good, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, nil)
	must(t, err)
	pinned := upstream.Pin{Path: kubelet, SHA512: good.SHA512}
	for name, tt := range map[string]struct {
		missing []string
		pin     upstream.Pin
		half    bool
	}{
		"file":               {[]string{""}, upstream.Pin{Path: kubelet}, true},
		"file, pinned":       {[]string{""}, pinned, true},
		"checksums":          {[]string{".sha256", ".sha512"}, upstream.Pin{Path: kubelet}, true},
		"everything":         {[]string{"", ".sha256", ".sha512"}, upstream.Pin{Path: kubelet}, false},
		"everything, pinned": {[]string{"", ".sha256", ".sha512"}, pinned, false},
	} {
		t.Run(name, func(t *testing.T) {
			for _, ext := range tt.missing {
				w.Missing(kubelet + ext)
				defer w.Script(kubelet+ext, nil)
			}
			_, err := w.newClient(t).Fetch(t.Context(), tt.pin, nil)
			var half *upstream.Incomplete
			var mismatch *download.Mismatch
			if errors.As(err, &half) != tt.half || errors.As(err, &mismatch) || !download.NotFound(err) || download.Unreachable(err) {
				t.Errorf("got %v, want incomplete: %v, and a 404 as the cause", err, tt.half)
			}
		})
	}
	// One of the two checksums is enough.
	w.Missing(kubelet + ".sha512")
	if _, err := w.newClient(t).Fetch(t.Context(), upstream.Pin{Path: kubelet}, nil); err != nil {
		t.Error(err)
	}
}

func TestSeveralBasesAreAskedInOrder(t *testing.T) {
	dead, empty, good := publish(t, imgtest.Signing{}), publish(t, imgtest.Signing{}), publish(t, imgtest.Signing{})
	dead.Close()
	must(t, os.RemoveAll(empty.dir))
	c := good.newClient(t)
	c.Bases = []string{dead.URL, empty.URL + "/", good.URL}
	b, err := c.Fetch(t.Context(), upstream.Pin{Path: kubelet}, []upstream.Proof{upstream.Signature})
	must(t, err)
	if b.URL != good.URL+"/"+kubelet {
		t.Errorf("got it from %s", b.URL)
	}
	// Without the one that has it, the dead one keeps the answer open.
	c = good.newClient(t)
	c.Bases = []string{dead.URL, empty.URL}
	if _, err := c.Fetch(t.Context(), upstream.Pin{Path: kubelet}, nil); !download.Unreachable(err) || download.NotFound(err) {
		t.Errorf("got %v, want it unreachable", err)
	}
}

func TestPathsAndProofsFromOutsideAreChecked(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	for _, path := range []string{"", "/etc/passwd", "../x", "a/../../x", "a//b", "a?b", "a#b", "a%2fb", `a\b`, "a b"} {
		if _, err := w.client.Fetch(t.Context(), upstream.Pin{Path: path}, nil); err == nil || !strings.Contains(err.Error(), "clean relative") {
			t.Errorf("%q: got %v", path, err)
		}
	}
	if _, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, []upstream.Proof{"sig"}); err == nil {
		t.Error("accepted an unknown proof")
	}
	if r := w.Requests(); len(r) > 0 {
		t.Errorf("asked for %v", r)
	}
}

func TestACancelledFetchSaysSo(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	ctx, cancel := context.WithCancel(t.Context())
	w.Script(kubelet+".sig", func(http.ResponseWriter, *http.Request) { cancel(); <-ctx.Done() })
	if _, err := w.client.Fetch(ctx, upstream.Pin{Path: kubelet}, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
