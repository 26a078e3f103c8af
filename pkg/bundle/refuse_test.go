package bundle

import (
	"encoding/base64"
	"strings"
	"testing"
	"time"
)

// What was left to fill in is refused wherever it stands.
func TestK06PlaceholdersAreRefused(t *testing.T) {
	refuseBodies(t, map[string]string{
		"template":          "image: {{ .Image }}",
		"variable":          "ExecStart=/x ${HOME}",
		"unclosed variable": "ExecStart=/x ${HOME",
		"version":           "a: v{version}",
		"reminder":          "a: REPLACE_ME",
		"angle brackets":    "server: <API_SERVER>",
	})
}

// An image by tag is refused wherever it stands, and so is another digest of our own.
func TestK07ImagesByTagAreRefused(t *testing.T) {
	refuseBodies(t, map[string]string{
		"image by tag":            "image: quay.io/coreos/etcd:v3.5.13",
		"image by nothing":        "a: registry.k8s.io/pause",
		"image of any registry":   "- image: r.example.org/a:1",
		"image by tag and digest": "image: quay.io/a/b:1@" + digest,
		"own image by tag":        "a: r.example.org:5000/own:v1",
		"own image, other digest": "a: r.example.org:5000/own@sha256:" + strings.Repeat("cd", 32),
	})
}

// refuseBodies packs each text as a file; TestImageAcceptsWhatOnlyLooksAlike has their siblings.
func refuseBodies(t *testing.T, bodies map[string]string) {
	t.Helper()
	for name, text := range bodies {
		if _, err := handmade("/etc/a.yaml", text).Image(time.Unix(1, 0)); err == nil || !strings.Contains(err.Error(), "/etc/a.yaml: ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line that names the file", name, err)
		}
	}
}

func TestImageAcceptsWhatOnlyLooksAlike(t *testing.T) {
	for name, text := range map[string]string{
		"certificate":               "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
		"certificate in base64":     "ca: " + base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")),
		"public key":                "-----BEGIN PUBLIC KEY-----\n",
		"kind that begins alike":    "kind: SecretProviderClass\n",
		"the variable of a unit":    "ExecStart=/usr/bin/podman run ${KUBELET_IMAGE}\n",
		"empty map":                 "a: {}\nb: [{}]\n",
		"domain":                    "server: https://cluster.example.org:6443\n",
		"repository that is longer": "a: r.example.org:5000/own-bundle and r.example.org:5000/own/x\n",
		"image by digest":           "image: quay.io/a/b@" + digest + "\n",
		"own image as pinned":       "a: r.example.org:5000/own@" + digest + "\n",
		"nothing":                   "",
		"API group":                 "apiGroup: rbac.authorization.k8s.io/v1\n",
		"token words":               "enable-bootstrap-token-auth\n",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := handmade("/etc/a.yaml", text).Image(time.Unix(1, 0)); err != nil {
				t.Error(err)
			}
		})
	}
}
