package upstream_test

import (
	"errors"
	"testing"

	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// U06: a page that comes instead of a file or of what proves it says nothing
// about either: nobody answered.
func TestAPageIsNoAnswer(t *testing.T) {
	const page = "<?xml version='1.0' encoding='UTF-8'?><Error><Code>NoSuchKey</Code></Error>"
	signed := []upstream.Proof{upstream.Signature}
	for name, paths := range map[string][]string{
		"the file":              {kubelet},
		"both checksums":        {kubelet + ".sha256", kubelet + ".sha512"},
		"one checksum":          {kubelet + ".sha256"},
		"the signature":         {kubelet + ".sig"},
		"the certificate":       {kubelet + ".cert"},
		"file and its checksum": {kubelet, kubelet + ".sha256"},
	} {
		t.Run(name, func(t *testing.T) {
			w := publish(t, imgtest.Signing{})
			for _, p := range paths {
				w.Replace(p, []byte(page))
			}
			_, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, signed)
			var u *upstream.Unproven
			var m *download.Mismatch
			if !download.Unreachable(err) || download.NotFound(err) || errors.As(err, &u) || errors.As(err, &m) {
				t.Errorf("got %v, want it unreachable and nothing else", err)
			}
			for _, p := range paths {
				w.Script(p, nil)
			}
			if _, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, signed); err != nil {
				t.Errorf("without the page: %v", err)
			}
		})
	}
}
