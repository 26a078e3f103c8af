package verify

import (
	"errors"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

// pair is two real registries that hold one signed release, and a verifier with
// the network as it is.
type pair struct {
	*Verifier
	first  *imgtest.Registry
	a, b   string // the repositories, in the order of the policy
	digest string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	k := imgtest.SigningKey(t)
	first, second := imgtest.StartRegistry(t, imgtest.RegistryOptions{}), imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	p := &pair{first: first, a: first.Host() + "/kubelet", b: second.Host() + "/kubelet"}
	for _, repository := range []string{p.a, p.b} {
		p.digest = imgtest.Release{Repository: repository, Signers: []sign.Signer{k}, Tags: []string{"v1"}}.Push(t).String()
	}
	p.Verifier = verifierOf(trusting(t, []string{p.a, p.b}, k), oci.Timeouts{})
	return p
}

// verifierOf asks once.
func verifierOf(p *Policy, timeouts oci.Timeouts) *Verifier {
	return &Verifier{
		Policy:   p,
		Registry: &oci.Client{Retry: oci.Retry{Tries: 1}, Timeouts: timeouts},
		Now:      func() time.Time { return noon },
	}
}

func (p *pair) inspect(t *testing.T, repository string) *Inspection {
	t.Helper()
	in, err := p.Inspect(t.Context(), oci.Reference{Repository: repository, Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	return in
}

// The outages of the catalogue, replayed at the first of two registries: the
// second decides, the shape has its name, and nothing is called a change.
func TestM01M02M03OutagesAreUnknownAndTheNextSourceDecides(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fault imgtest.Fault
		want  oci.Outage
	}{
		{"2016 Quay: manifests come, blobs do not", imgtest.Fault{Path: "/blobs/", Status: 504}, oci.OutageBlobs},
		{"2020 Quay: 5xx", imgtest.Fault{Status: 502}, oci.OutageServer},
		{"2025 Hub: 401 for everyone", imgtest.Fault{Status: 401}, oci.OutageDenied},
		{"429 for everyone", imgtest.Fault{Status: 429}, oci.OutageRateLimit},
		{"connections are cut", imgtest.Fault{Drop: true}, oci.OutageCut},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair(t)
			p.first.On(tt.fault)
			in := p.inspect(t, p.a)
			expect(t, in, VerdictVerified, VerdictUnknown, VerdictVerified)
			if in.Through != p.b || in.Digest != p.digest || in.Sources[0].Outage != tt.want {
				t.Errorf("through %s, outage %q, want %q: %+v", in.Through, in.Sources[0].Outage, tt.want, in.Sources[0])
			}
			if !strings.Contains(in.Conclusion, "nothing says that it changed") || !strings.Contains(in.Next, "keep working") || !strings.Contains(in.Next, p.b+"@"+p.digest) {
				t.Errorf("%s\n%s", in.Conclusion, in.Next)
			}
			if !strings.HasPrefix(in.Sources[0].Answer(), "no: ") || in.Sources[1].Answer() != "yes" {
				t.Errorf("answers: %q, %q", in.Sources[0].Answer(), in.Sources[1].Answer())
			}
		})
	}
}

// M03: the blobs are elsewhere, and nobody is there.
func TestM03DeadCDNIsUnknownAndNotUnsigned(t *testing.T) {
	p := newPair(t)
	p.first.Redirect("http://127.0.0.1:1")
	in := p.inspect(t, p.a)
	expect(t, in, VerdictVerified, VerdictUnknown, VerdictVerified)
	if s := in.Sources[0]; s.Outage != oci.OutageBlobs || !s.Answers || s.Digest != p.digest {
		t.Errorf("row: %+v", s)
	}
	// What was verified through the second is read from the first where it has it.
	if got := in.Verified.Sources(); len(got) != 2 || got[0].String() != p.b || got[1].String() != p.a {
		t.Errorf("sources: %v", got)
	}
}

// M03: a source that was verified dies before the pull, which goes on elsewhere.
func TestM03PullGoesOnAtTheNextSource(t *testing.T) {
	p := newPair(t)
	in := p.inspect(t, p.a)
	expect(t, in, VerdictVerified, VerdictVerified, VerdictVerified)
	p.first.On(imgtest.Fault{Path: "/blobs/", Cut: 3})
	image, err := in.Verified.Children()[0].Image()
	if err != nil {
		t.Fatal(err)
	}
	body, err := in.Verified.ReadBlob(t.Context(), image.Layers[0], 1<<20)
	if err != nil || string(body) != "kubelet for amd64" {
		t.Errorf("got %q, %v", body, err)
	}
}

// M05: with everybody dead there is one answer, with all causes, and it is no verdict.
func TestM05AllSourcesDeadIsUnknown(t *testing.T) {
	k := imgtest.SigningKey(t)
	sources := []string{"127.0.0.1:1/kubelet", imgtest.BlackHole(t) + "/kubelet", "oci:" + t.TempDir() + "/none"}
	v := verifierOf(trusting(t, sources[:2], k), oci.Timeouts{Connect: 2 * time.Second})
	in, err := v.Inspect(t.Context(), oci.Reference{Repository: sources[0], Tag: "v1"})
	if err != nil {
		t.Fatal(err)
	}
	expect(t, in, VerdictUnknown, VerdictUnknown, VerdictUnknown)
	var unknown *Unknown
	var refusal *Refusal
	if !errors.As(in.Err, &unknown) || errors.As(in.Err, &refusal) || !oci.Unreachable(in.Err) {
		t.Errorf("error: %v", in.Err)
	}
	if in.Sources[0].Outage != oci.OutageRefused || in.Sources[1].Outage != oci.OutageBlackHole {
		t.Errorf("rows: %+v", in.Sources)
	}
	if !strings.HasPrefix(in.Next, "Running nodes keep working") || in.Verified != nil {
		t.Errorf("next: %s", in.Next)
	}
	// A directory that is not there is an answer, and so the sibling is absent.
	v = verifierOf(trusting(t, sources[2:], k), oci.Timeouts{})
	if in, err = v.Inspect(t.Context(), oci.Reference{Repository: sources[2], Tag: "v1"}); err != nil {
		t.Fatal(err)
	}
	expect(t, in, VerdictAbsent, VerdictAbsent)
}

// M06, and Docker Hub in July 2020: connected, and no byte. It costs one request
// for a whole run.
func TestM06DeadHostIsAskedOnce(t *testing.T) {
	for outage, answer := range map[oci.Outage]func(*http.Request) (*http.Response, error){
		oci.OutageStall: func(*http.Request) (*http.Response, error) { // as if its time had passed
			return nil, &net.OpError{Op: "read", Net: "tcp", Err: os.ErrDeadlineExceeded}
		},
		oci.OutageServer: func(req *http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 500, Body: http.NoBody, Header: http.Header{}, Request: req}, nil
		},
	} {
		t.Run(string(outage), func(t *testing.T) { deadHostIsAskedOnce(t, outage, answer) })
	}
}

func deadHostIsAskedOnce(t *testing.T, outage oci.Outage, answer func(*http.Request) (*http.Response, error)) {
	k := imgtest.SigningKey(t)
	live := newRegistry(t)
	imgtest.Release{Repository: live, Signers: signers(k), Tags: []string{"v1", "v2", "v3"}}.Push(t)
	w := newWorld(t, trusting(t, []string{"127.0.0.9:5000/kubelet", live}, k))
	w.net.add(func(req *http.Request) (*http.Response, error) {
		if req.URL.Host == "127.0.0.9:5000" {
			return answer(req)
		}
		return nil, nil
	})
	once := 0
	for _, tag := range []string{"v1", "v2", "v3"} {
		in, err := w.Inspect(t.Context(), oci.Reference{Repository: live, Tag: tag})
		if err != nil {
			t.Fatal(err)
		}
		expect(t, in, VerdictVerified, VerdictUnknown, VerdictVerified)
		if in.Sources[0].Outage != outage {
			t.Errorf("row: %+v", in.Sources[0])
		}
		if once == 0 {
			once = w.net.asked("127.0.0.9:5000")
		}
	}
	if n := w.net.asked("127.0.0.9:5000"); n != once {
		t.Errorf("the dead host was asked %d times, and %d of them later: %q", once, n-once, w.net.log)
	}
	if n := w.net.asked(live[:strings.Index(live, "/")], "manifests/v3"); n == 0 {
		t.Error("the live host was not asked")
	}
}

// What is not clearly an answer is none.
func TestErrorsThatNobodyUnderstandsAreUnknown(t *testing.T) {
	a := newRegistry(t)
	_, missing := open(t, newWorld(t, trusting(t, []string{a}, imgtest.SigningKey(t))), a).Resolve(t.Context(), "v1")
	for want, err := range map[answer]error{unknown: errors.New("whatever"), absent: missing, good: nil} {
		if got := classify(err); got != want {
			t.Errorf("%v: got %d, want %d", err, got, want)
		}
	}
}

// M04: the index is there and a manifest of it is not; the next source has both.
func TestM04MissingChildIsFoundAtTheNextSource(t *testing.T) {
	p := newPair(t)
	in := p.inspect(t, p.a)
	child := in.Verified.Children()[0].Descriptor.Digest.String()
	p.first.On(imgtest.Fault{Path: "/manifests/" + child + "$", Status: 404})
	in = p.inspect(t, p.a)
	expect(t, in, VerdictVerified, VerdictRefused, VerdictVerified)
	if in.Sources[0].Reason != Incomplete || in.Through != p.b {
		t.Errorf("row: %+v", in.Sources[0])
	}
}

// The verdict never says to skip a check, whatever it is.
func TestM13NoVerdictSuggestsToSkipACheck(t *testing.T) {
	k, mallory := imgtest.SigningKey(t), imgtest.SigningKey(t)
	a := newRegistry(t)
	imgtest.Release{Repository: a, Content: imgtest.SmallIndex(t, "evil"), Signers: signers(mallory), Tags: []string{"v1"}}.Push(t)
	in := newWorld(t, trusting(t, []string{a}, k)).inspect(t, a)
	expect(t, in, VerdictRefused, VerdictRefused)
	if in.Reason != WrongSigner || in.Sources[0].Reason != WrongSigner {
		t.Errorf("reason: %q", in.Reason)
	}
	verdicts := []Inspection{{Verdict: VerdictUnknown}, {Verdict: VerdictChanged}, {Verdict: VerdictAbsent}, *in}
	for reason := range reasonText {
		verdicts = append(verdicts, Inspection{Verdict: VerdictRefused, Reason: reason})
	}
	for _, in := range verdicts {
		text := strings.ToLower(in.sentence(oci.Reference{Repository: a, Tag: "v1"}) + in.next(oci.Reference{Repository: a, Tag: "v1"}))
		for _, word := range []string{"insecure", "unsafe", "skip", "ignore", "disable", "force"} {
			if strings.Contains(text, word) {
				t.Errorf("%s %s: %q suggests to %s", in.Verdict, in.Reason, text, word)
			}
		}
	}
}
