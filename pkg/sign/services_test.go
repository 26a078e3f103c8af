package sign_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

// Services that are busy, lose an answer or are slow to agree are asked again.
func TestServicesThatFailForAWhileAreAskedAgain(t *testing.T) {
	fails := func(status int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for i := 0; i+1 < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			http.Error(w, "busy", status)
		}
	}
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	for name, script := range map[string]func(*world){
		"Fulcio 503":               func(w *world) { w.Script("signingCert", 2, fails(503)) },
		"Fulcio 429, Retry-After":  func(w *world) { w.Script("signingCert", 1, fails(429, "Retry-After", "7")) },
		"Rekor cuts":               func(w *world) { w.Script("rekor/api/v1/log/entries", 2, cut) },
		"Rekor 500":                func(w *world) { w.Script("rekor/api/v1/log/entries", 1, fails(500)) },
		"timestamps 502":           func(w *world) { w.Script("timestamp", 3, fails(502)) },
		"Rekor 409, then 404 once": func(w *world) { w.lose(1) },
		"Rekor v2 409":             func(w *world) { w.lose2(1) },
		"Rekor v2 404":             func(w *world) { w.Script("rekor2/api/v2/log/entries", 2, fails(404)) },
		"Rekor v2 503":             func(w *world) { w.Script("rekor2/api/v2/log/entries", 2, fails(503)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			script(w)
			s := w.v1()
			s.Logs = append(s.Logs, w.v2().Logs...)
			s.Timestamps = []string{w.TSA()}
			if _, err := w.keyless(s).Sign(t.Context(), sign.Payload("x")); err != nil {
				t.Fatal(err)
			}
		})
	}
	for name, tt := range map[string]struct {
		script func(*world)
		want   string
	}{
		"Fulcio 503 for ever":    {func(w *world) { w.Script("signingCert", 99, fails(503)) }, "got 503, want 2xx: busy"},
		"Fulcio 400":             {func(w *world) { w.Script("signingCert", 99, fails(400)) }, "got 400"},
		"redirect":               {func(w *world) { w.Script("signingCert", 99, fails(307, "Location", "http://127.0.0.9/")) }, "got 307"},
		"404 for ever":           {func(w *world) { w.lose(99) }, "got 404"},
		"Rekor v2: 404 for ever": {func(w *world) { w.Script("rekor2/api/v2/log/entries", 99, fails(404)) }, "got 404"},
		"Rekor v2: 409 for ever": {func(w *world) { w.Script("rekor2/api/v2/log/entries", 99, fails(409)) }, "has this signature already"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, nil)
			tt.script(w)
			s := w.v2()
			s.Logs = append(w.v1().Logs, s.Logs...)
			if _, err := w.keyless(s).Sign(t.Context(), sign.Payload("x")); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if n := w.Asked("signingCert"); n > 5 {
				t.Errorf("Fulcio was asked %d times", n)
			}
		})
	}
}

// Who has signed earlier is of interest only to one who can sign: a Fulcio that is
// dead is asked once, and not for each signature that is there.
func TestDeadFulcioIsAskedOnce(t *testing.T) {
	w := newWorld(t, nil)
	repository, image := imgtest.StartRegistry(t, imgtest.RegistryOptions{}).Host()+"/kubelet", imgtest.SmallImage(t, "dead", "amd64")
	for range 3 {
		other := w.keyless(w.v1())
		other.Identity = sign.Identity{Subject: email, Issuer: w.Issuer()}
		publish(t, repository, image, &fresh{other}, true, false)
	}
	before := w.Asked("signingCert")
	w.Script("signingCert", 99, func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "dead", http.StatusServiceUnavailable) })
	d, err := partial.Descriptor(image)
	if err != nil {
		t.Fatal(err)
	}
	repo, err := (&oci.Client{}).Repository(repository)
	if err != nil {
		t.Fatal(err)
	}
	_, err = sign.Attest(t.Context(), sign.Keep(w.keyless(w.v1()), repo), *d, "test", attest.PredicateSignature, []byte("{}"), imgtest.ReleaseTime())
	if err == nil || !strings.Contains(err.Error(), "ask Fulcio for a certificate") {
		t.Errorf("got %v, want Fulcio named", err)
	}
	if n := w.Asked("signingCert") - before; n != 5 {
		t.Errorf("Fulcio was asked %d times, want the 5 tries of one request", n)
	}
}

// fresh signs anew whatever is there.
type fresh struct{ *sign.Keyless }

// Recognize implements [sign.Recognizer].
func (*fresh) Recognize(context.Context, sign.Content, []byte) (*sign.Signed, error) {
	return nil, errors.New("not mine")
}

// lose makes Rekor v1 take the next entry without an answer, and then say so
// many times that it does not know it: another replica does not, yet.
func (w *world) lose(unknown int) {
	log := http.StripPrefix("/rekor", w.Rekor())
	w.Script("rekor/api/v1/log/entries", 1, func(rw http.ResponseWriter, r *http.Request) {
		log.ServeHTTP(discard{http.Header{}}, r)
		panic(http.ErrAbortHandler)
	})
	w.Script("rekor/api/v1/log/entries/", unknown, func(rw http.ResponseWriter, r *http.Request) { http.NotFound(rw, r) })
}

// lose2 makes Rekor v2 take the next so many entries without an answer: asked
// again, it has them already.
func (w *world) lose2(times int) {
	w.Script("rekor2/api/v2/log/entries", times, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	w.Script("rekor2/api/v2/log/entries", times, func(rw http.ResponseWriter, _ *http.Request) {
		http.Error(rw, `{"code":6,"message":"an equivalent entry already exists in the transparency log with index 0"}`, http.StatusConflict)
	})
}

// discard is an answer that nobody gets.
type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(b []byte) (int, error) { return len(b), nil }
func (d discard) WriteHeader(int)             {}

// A registry that is busy while signatures are written gets them all the same,
// and one that stays busy is an error, whatever was signed.
func TestRegistryThatIsBusyGetsTheSignatures(t *testing.T) {
	busy := func(method, path string, times int) imgtest.Fault {
		return imgtest.Fault{Method: method, Path: path, Times: times, Status: http.StatusTooManyRequests, Header: http.Header{"Retry-After": {"2"}}}
	}
	w := newWorld(t, nil)
	for name, noReferrers := range map[string]bool{"referrers API": false, "fallback tag": true} {
		t.Run(name, func(t *testing.T) {
			r := imgtest.StartRegistry(t, imgtest.RegistryOptions{NoReferrers: noReferrers})
			repository, image := r.Host()+"/kubelet", imgtest.SmallImage(t, "busy", "amd64")
			signature := busy(http.MethodPut, ".sig$", 2)
			for _, f := range []imgtest.Fault{signature, busy(http.MethodPut, ".att$", 2), busy(http.MethodPut, "/manifests/sha256", 3), busy(http.MethodPost, "/uploads/", 3)} {
				r.On(f)
			}
			h, _ := publish(t, repository, image, w.keyless(w.v1()), true, true)
			if err := offline(t, w.policy(t, repository, email, w.Issuer()), repository, h); err != nil {
				t.Error(err)
			}
			refused := 0
			for _, q := range r.Writes() {
				if q.Status == http.StatusTooManyRequests {
					refused++
				}
			}
			if refused != 10 {
				t.Errorf("got %d answers of 429, want all 10", refused)
			}
			r.Heal()
			r.On(busy(http.MethodPut, ".sig$", 0))
			if _, _, err := tryPublish(t, r.Host()+"/other", image, w.keyless(w.v1()), true, true); err == nil || !strings.Contains(err.Error(), "429") {
				t.Errorf("busy for ever: got %v, want 429", err)
			}
		})
	}
}
