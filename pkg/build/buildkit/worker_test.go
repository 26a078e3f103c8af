package buildkit

import (
	"slices"
	"strings"
	"testing"
)

func TestWorkerIsAnAddressWithAPlatformOrWithout(t *testing.T) {
	for text, want := range map[string]Worker{
		"unix:///run/buildkit/buildkitd.sock":                      {"", "unix:///run/buildkit/buildkitd.sock"},
		"linux/arm64=tcp://10.0.0.7:1234":                          {"linux/arm64", "tcp://10.0.0.7:1234"},
		"linux/amd64=unix:///run/a=b.sock":                         {"linux/amd64", "unix:///run/a=b.sock"},
		"kube-pod://buildkitd-0?namespace=build":                   {"", "kube-pod://buildkitd-0?namespace=build"},
		"linux/arm64=kube-pod://buildkitd-1?context=a&namespace=b": {"linux/arm64", "kube-pod://buildkitd-1?context=a&namespace=b"},
		"docker-container://buildx":                                {"", "docker-container://buildx"},
		"podman-container://buildkitd":                             {"", "podman-container://buildkitd"},
		"ssh://me@arm.example.com":                                 {"", "ssh://me@arm.example.com"},
	} {
		if got, err := ParseWorker(text); err != nil || got != want {
			t.Errorf("%s: got %+v, %v; want %+v", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                          "want an address with one of the schemes unix, tcp",
		"/run/buildkit.sock":        "want an address",
		"https://example.com":       "want an address",
		"unix://":                   "want an address",
		"linux/arm64=":              "want an address",
		"arm64=unix:///a":           `platform: got "arm64"`,
		"linux/riscv64=unix:///a":   `platform: got "linux/riscv64"`,
		"linux/arm64=linux/arm64=a": "want an address",
		"tcp://[::1":                "missing ']'",
	} {
		_, err := ParseWorker(text)
		has(t, err, want)
	}
}

func TestTCPWorkerMustProveItselfAndAskWhoWeAre(t *testing.T) {
	whole := TLS{CA: "ca.pem", Cert: "cert.pem", Key: "key.pem"}
	for _, tt := range []struct {
		address string
		tls     TLS
		want    string // in the error; "": none
	}{
		{"unix:///a", TLS{}, ""},
		{"unix:///a", whole, ""},
		{"ssh://a", TLS{}, ""},
		{"tcp://10.0.0.7:1234", whole, ""},
		{"tcp://127.0.0.1:1234", TLS{}, ""},
		{"tcp://[::1]:1234", TLS{}, ""},
		{"tcp://localhost:1234", TLS{}, ""},
		{"tcp://10.0.0.7:1234", TLS{}, "want TLS"},
		{"tcp://127.0.0.1.example.com:1234", TLS{}, "want TLS"},
		{"tcp://buildkitd:1234", TLS{CA: "ca.pem"}, "a certificate for us"},
		{"tcp://buildkitd:1234", TLS{CA: "ca.pem", Cert: "cert.pem"}, "the key"},
		{"tcp://127.0.0.1:1234", TLS{Cert: "cert.pem", Key: "key.pem"}, "a CA"},
		{"tcp://10.0.0.7:1234", TLS{ServerName: "worker"}, "a CA"},
	} {
		err := tt.tls.Check(Worker{Address: tt.address})
		if tt.want == "" {
			if err != nil {
				t.Errorf("%s %+v: got %v, want it accepted", tt.address, tt.tls, err)
			}
			continue
		}
		has(t, err, tt.want, tt.address)
	}
}

func TestCertificatesAreOnlyForTCP(t *testing.T) {
	whole := TLS{CA: "ca.pem", Cert: "cert.pem", Key: "key.pem"}
	if got := whole.options(Worker{Address: "unix:///a"}); len(got) != 0 {
		t.Errorf("unix: got %d options, want none", len(got))
	}
	if got := whole.options(Worker{Address: "tcp://10.0.0.7:1"}); len(got) != 3 {
		t.Errorf("tcp with TLS: got %d options, want dialer, server and us", len(got))
	}
}

func TestRealClientRefusesBeforeItDials(t *testing.T) {
	e := &Engine{Workers: []Worker{{Address: "tcp://192.0.2.1:1234"}}}
	_, err := e.dial(t.Context(), e.Workers[0])
	has(t, err, "worker tcp://192.0.2.1:1234", "want TLS")
	_, err = (&Engine{TLS: TLS{CA: "/does/not/exist", Cert: "b", Key: "c"}}).dial(t.Context(), e.Workers[0])
	has(t, err, "worker tcp://192.0.2.1:1234", "ca certificate")
}

func FuzzParseWorker(f *testing.F) {
	for _, seed := range []string{"unix:///a", "linux/arm64=tcp://10.0.0.7:1234", "kube-pod://a?namespace=b", "=", "linux/amd64=%"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := ParseWorker(s)
		if err != nil {
			return
		}
		again := w.Address
		if w.Platform != "" {
			again = w.Platform + "=" + again
		}
		if again != s {
			t.Errorf("got %+v of %q", w, s)
		}
		scheme, _, _ := strings.Cut(w.Address, "://")
		if !slices.Contains(schemes, strings.ToLower(scheme)) && !slices.Contains(schemes, strings.SplitN(strings.ToLower(w.Address), ":", 2)[0]) {
			t.Errorf("%q: scheme %q", s, scheme)
		}
	})
}
