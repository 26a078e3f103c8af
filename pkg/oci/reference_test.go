package oci_test

import (
	"strings"
	"testing"

	"github.com/imgctl/imgctl/pkg/oci"
)

const (
	hexA = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	hexB = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
)

// R10, C07: every spelling of a name has one canonical form.
func TestR10ReferenceHasOneCanonicalForm(t *testing.T) {
	for in, want := range map[string]string{
		"quay.io/poseidon/kubelet":                   "quay.io/poseidon/kubelet",
		"quay.io/poseidon/kubelet:v1.36.2":           "quay.io/poseidon/kubelet:v1.36.2",
		"quay.io/poseidon/kubelet@sha256:" + hexA:    "quay.io/poseidon/kubelet@sha256:" + hexA,
		"quay.io/poseidon/kubelet:v1@sha256:" + hexA: "quay.io/poseidon/kubelet:v1@sha256:" + hexA,
		"busybox":                               "docker.io/library/busybox",
		"busybox:1":                             "docker.io/library/busybox:1",
		"psdn/kubelet":                          "docker.io/psdn/kubelet",
		"docker.io/busybox":                     "docker.io/library/busybox",
		"docker.io/psdn/kubelet":                "docker.io/psdn/kubelet",
		"index.docker.io/psdn/kubelet":          "docker.io/psdn/kubelet",
		"registry-1.docker.io/library/busybox":  "docker.io/library/busybox",
		"localhost/kubelet":                     "localhost/kubelet",
		"localhost:5000/kubelet:v1":             "localhost:5000/kubelet:v1",
		"127.0.0.1:5000/a/b/c":                  "127.0.0.1:5000/a/b/c",
		"[::1]:5000/kubelet:v1":                 "[::1]:5000/kubelet:v1",
		"[2001:db8::1]/kubelet":                 "[2001:db8::1]/kubelet",
		"ghcr.io/a__b/c-d.e":                    "ghcr.io/a__b/c-d.e",
		"oci:dist":                              "oci:dist",
		"oci:./dist/":                           "oci:dist",
		"oci:/var/lib/store:v1":                 "oci:/var/lib/store:v1",
		"oci:/a:b/store":                        "oci:/a:b/store",
		"oci:/srv/kubelet@x/store":              "oci:/srv/kubelet@x/store",
		"oci:dist:v1@sha256:" + hexB:            "oci:dist:v1@sha256:" + hexB,
		"oci:/srv/kühl":                         "oci:/srv/kühl",
		"quay.io/" + strings.Repeat("a", 255):   "quay.io/" + strings.Repeat("a", 255),
		"quay.io/a:" + strings.Repeat("T", 128): "quay.io/a:" + strings.Repeat("T", 128),
		"registry.example.com:65535/a":          "registry.example.com:65535/a",
	} {
		ref, err := oci.ParseReference(in)
		if err != nil || ref.String() != want {
			t.Errorf("%s: got %q, %v; want %q", in, ref, err, want)
			continue
		}
		again, err := oci.ParseReference(ref.String())
		if err != nil || again != ref {
			t.Errorf("%s: its canonical form parses to %q, %v", in, again, err)
		}
	}
}

// C07, R09, R18: what is not clearly one reference is none.
func TestC07ReferenceThatCouldBeMisreadIsRefused(t *testing.T) {
	for name, in := range map[string]string{
		"empty":                "",
		"Cyrillic a in host":   "quаy.io/poseidon/kubelet",
		"upper case host":      "QUAY.IO/poseidon/kubelet",
		"upper case path":      "quay.io/Poseidon/kubelet",
		"trailing dot":         "quay.io./poseidon/kubelet",
		"port 99999":           "quay.io:99999/kubelet",
		"port 0":               "quay.io:0/kubelet",
		"port 080":             "quay.io:080/kubelet",
		"no port":              "quay.io:/kubelet",
		"scheme":               "https://quay.io/kubelet",
		"no path":              "quay.io/",
		"double slash":         "quay.io/a//b",
		"dots in path":         "quay.io/../etc",
		"query":                "quay.io/a?b=c",
		"blank":                "quay.io/a b",
		"newline":              "quay.io/a\nb",
		"nul":                  "quay.io/a\x00",
		"tag too long":         "quay.io/a:" + strings.Repeat("t", 129),
		"tag with slash":       "quay.io/a:b/c",
		"tag that is a dash":   "quay.io/a:-x",
		"path too long":        "quay.io/" + strings.Repeat("a", 256),
		"IPv6 without bracket": "::1:5000/kubelet",
		"IPv6 zone":            "[fe80::1%25eth0]/kubelet",
		"IPv4 in brackets":     "[127.0.0.1]/kubelet",
		"63 digits":            "quay.io/a@sha256:" + hexA[1:],
		"65 digits":            "quay.io/a@sha256:" + hexA + "a",
		"upper case digits":    "quay.io/a@sha256:" + strings.ToUpper(hexA),
		"upper case algorithm": "quay.io/a@SHA256:" + hexA,
		"md5":                  "quay.io/a@md5:d41d8cd98f00b204e9800998ecf8427e",
		"sha512 of 64 digits":  "quay.io/a@sha512:" + hexA,
		"path in digest":       "quay.io/a@sha256:../" + hexA[3:],
		"empty digest":         "quay.io/a@",
		"two digests":          "quay.io/a@sha256:" + hexA + "@sha256:" + hexA,
		"layout without dir":   "oci:",
		"layout, bad tag":      "oci:dist:a b",
		"layout, colon last":   "oci:a:b/",
		"layout, bad digest":   "oci:dist@sha256:abc",
	} {
		if ref, err := oci.ParseReference(in); err == nil {
			t.Errorf("%s: %q is taken for %q", name, in, ref)
		} else if strings.ContainsAny(err.Error(), "\n\x00") || strings.Contains(err.Error(), "а") {
			t.Errorf("%s: the error repeats what it refuses: %q", name, err)
		}
	}
}

// C05: credentials in a reference are refused, and nowhere repeated.
func TestC05CredentialsInAReferenceAreNotRepeated(t *testing.T) {
	for _, in := range []string{
		"robot:hunter2@quay.io/poseidon/kubelet", "https://robot:hunter2@quay.io/kubelet", "robot:hunter2@quay.io", "hunter2@quay.io/kubelet:v1",
		"robot:hunter2@[::1]:5000/a@sha256:" + hexA, "rob/ot:hunter2@quay.io/a", "röbot:hunter2@quay.io/a",
	} {
		if _, err := oci.ParseReference(in); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: got %v, want it refused without the password", in, err)
		}
	}
	if _, err := oci.ParseReference("quay.io/poseidon/kubelet"); err != nil {
		t.Error(err)
	}
}

func TestRepositoryTakesNoTag(t *testing.T) {
	c := &oci.Client{}
	for _, name := range []string{"quay.io/a:v1", "quay.io/a@sha256:" + hexA, "oci:dist:v1", "quаy.io/a"} {
		if r, err := c.Repository(name); err == nil {
			t.Errorf("%s: got %s, want an error", name, r)
		}
	}
	r, err := c.Repository("index.docker.io/psdn/kubelet")
	if err != nil || r.String() != "docker.io/psdn/kubelet" {
		t.Errorf("got %v, %v", r, err)
	}
}

func FuzzParseReference(f *testing.F) {
	for _, s := range []string{"busybox", "quay.io/a:b@sha256:" + hexA, "[::1]:5000/a", "oci:/a:b@sha256:" + hexA, "u:p@h/x", "a/b/c:d", "docker.io/a", "oci:a/../b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		ref, err := oci.ParseReference(s)
		if err != nil {
			return
		}
		again, err := oci.ParseReference(ref.String())
		if err != nil || again != ref {
			t.Errorf("%q is %q, which is %q, %v", s, ref, again, err)
		}
		if _, err := (&oci.Client{}).Repository(ref.Repository); err != nil {
			t.Errorf("%q: its repository %q: %v", s, ref.Repository, err)
		}
	})
}

func FuzzParseDigest(f *testing.F) {
	for _, s := range []string{"sha256:" + hexA, "sha256:" + hexB, "sha512:" + hexA, "sha256:../../x", "md5:", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if h, err := oci.ParseDigest(s); err == nil && (h.String() != s || len(s) != 71 || strings.ContainsAny(s, "/.\\%")) {
			t.Errorf("%q is taken for %s", s, h)
		}
	})
}
