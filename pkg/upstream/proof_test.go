package upstream_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// U07: file and checksums were replaced together. Nobody could sign them.
func TestReplacedFileAndChecksumsFailTheSignature(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	forged, err := imgtest.WritePrograms(t.TempDir(), version, 50_000, "amd64")
	must(t, err)
	must(t, imgtest.Kube{Version: version, Binaries: forged}.Write(w.dir)) // leaves .sig and .cert
	_, err = w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, []upstream.Proof{upstream.Signature})
	var u *upstream.Unproven
	if !errors.As(err, &u) || slices.Contains(u.Found, upstream.Signature) || !slices.Contains(u.Found, upstream.Checksum) {
		t.Errorf("got %v, want it unproven with only a checksum", err)
	}
	b, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, []upstream.Proof{upstream.Checksum})
	must(t, err)
	if !slices.Equal(b.Proofs, []upstream.Proof{upstream.Checksum}) || b.Unsigned == nil || b.Evidence != nil {
		t.Errorf("got %v, %v; want a checksum only, and why", b.Proofs, b.Unsigned)
	}
}

// U09, U18: what is owed and not there fails, says what would be enough, and
// never falls back.
func TestAFileWithoutItsSignatureIsNotVerifiable(t *testing.T) {
	for name, tt := range map[string]struct {
		how      imgtest.Signing
		spoil    func(*world)
		unsigned bool
		want     string
	}{
		"no signature":        {spoil: func(w *world) { w.Missing(kubelet + ".sig") }, unsigned: true, want: ".sig: 404"},
		"no certificate":      {spoil: func(w *world) { w.Missing(kubelet + ".cert") }, unsigned: true, want: ".cert: 404"},
		"not in the log":      {how: imgtest.Signing{Unlogged: true}, unsigned: true, want: "has 0 entries"},
		"invalid signature":   {spoil: func(w *world) { w.Replace(kubelet+".sig", []byte("AAAA")) }, unsigned: true, want: "none with this signature"},
		"signature not text":  {spoil: func(w *world) { w.Replace(kubelet+".sig", []byte("\x30\x45")) }, want: "want a signature in base64"},
		"certificate not PEM": {spoil: func(w *world) { w.Replace(kubelet+".cert", []byte("AAAA")) }, want: "want one certificate in PEM"},
		"other signer":        {how: imgtest.Signing{Email: "krel-trust@k8s-releng-prod.iam.gserviceaccount.com"}, want: "krel-trust@"},
		"expired certificate": {how: imgtest.Signing{Late: time.Hour}, want: "integrated time outside"},
	} {
		t.Run(name, func(t *testing.T) {
			w := publish(t, tt.how)
			if tt.spoil != nil {
				tt.spoil(w)
			}
			_, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, []upstream.Proof{upstream.Signature})
			var u *upstream.Unproven
			if !errors.As(err, &u) {
				t.Fatalf("got %v, want an *Unproven", err)
			}
			for _, want := range []string{"not verifiable", "found checksum, want signature", "upstream.require", tt.want} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("got %q, want it to say %q", err, want)
				}
			}
			if errors.Is(err, upstream.ErrNoSignature) != tt.unsigned || download.Unreachable(err) {
				t.Errorf("got %v, want nobody claims to have signed: %v", err, tt.unsigned)
			}
			b, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, nil)
			must(t, err)
			if slices.Contains(b.Proofs, upstream.Signature) || b.Unsigned == nil {
				t.Errorf("got %v, %v; want no signature, and why", b.Proofs, b.Unsigned)
			}
		})
	}
}

// Four answers: a proof that could not be asked for is not one that is missing.
func TestASilentServerIsNotAMissingSignature(t *testing.T) {
	for _, path := range []string{kubelet + ".sig", kubelet + ".cert", "api/v1/index/retrieve"} {
		t.Run(filepath.Base(path), func(t *testing.T) {
			w := publish(t, imgtest.Signing{})
			w.Status(path, http.StatusServiceUnavailable)
			_, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, []upstream.Proof{upstream.Signature})
			var u *upstream.Unproven
			if !download.Unreachable(err) || errors.As(err, &u) || errors.Is(err, upstream.ErrNoSignature) {
				t.Errorf("got %v, want it unreachable and nothing else", err)
			}
			w.Script(path, nil)
			if _, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, []upstream.Proof{upstream.Signature}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestEvidenceInThePinDecidesAlone(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	b, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, nil)
	must(t, err)
	other, err := w.client.Fetch(t.Context(), upstream.Pin{Path: tarball}, nil)
	must(t, err)
	pin := b.Pin
	pin.Evidence = other.Evidence
	_, err = w.offline(t).Fetch(t.Context(), pin, both())
	var u *upstream.Unproven
	if !errors.As(err, &u) || !strings.Contains(err.Error(), "found pin, want pin and signature") {
		t.Errorf("got %v, want it unproven without asking anybody", err)
	}
}

func TestNoVerifierMeansNoSignature(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	w.client.Verifier = nil
	_, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, []upstream.Proof{upstream.Signature})
	var u *upstream.Unproven
	if !errors.As(err, &u) || !strings.Contains(err.Error(), "no trust root") {
		t.Errorf("got %v", err)
	}
}

// A pin is never found by a look: who requires one has to have one.
func TestARequiredPinMustBeThere(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	_, err := w.client.Fetch(t.Context(), upstream.Pin{Path: kubelet}, both())
	var u *upstream.Unproven
	if !errors.As(err, &u) || !slices.Equal(u.Found, []upstream.Proof{upstream.Checksum, upstream.Signature}) {
		t.Errorf("got %v", err)
	}
}
