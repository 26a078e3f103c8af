package secrets_test

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/imgctl/imgctl/pkg/bundle/secrets"
)

// filler stands for what is random in a secret.
const filler = "7Qf3vZ0kLm2XrT9bYw5Hc8NdSa1PgJu6EoKiWyRtVxBzMnQ4s"

// canaries are secrets of every shape, as files have them. None was ever used.
var canaries = map[string]string{
	"a bootstrap token":                   "abcdef.0123456789abcdef",
	"a bootstrap token in a file":         "token-id: abcdef\nthe token is abcdef.0123456789abcdef\n",
	"a bootstrap token in a flag":         "--discovery-token=abcdef.0123456789abcdef",
	"a bootstrap token in an environment": "TOKEN=abcdef.0123456789abcdef",
	"a kubeconfig's token":                "users:\n- user:\n    token: " + filler[:20] + "\n",
	"a kubeconfig's client key":           "client-key-data: LS0tLS1CRUdJTiBFQyBQUklWQVRFIEtFWS0tLS0tCg==",
	"a kubeconfig's client key by path":   "client-key: /etc/kubernetes/pki/admin.key",
	"a key of RSA":                        "-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA" + filler + "\n-----END RSA PRIVATE KEY-----\n",
	"a key of an elliptic curve":          "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIA" + filler + "\n-----END EC PRIVATE KEY-----\n",
	"a key as PKCS #8":                    "-----BEGIN PRIVATE KEY-----\nMIGHAgEAMBMG" + filler + "\n-----END PRIVATE KEY-----\n",
	"a key of OpenSSH":                    "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXkt" + filler + "\n",
	"a key of cosign":                     "-----BEGIN ENCRYPTED SIGSTORE PRIVATE KEY-----\neyJrZGYi" + filler + "\n",
	"a key of PGP":                        "-----BEGIN PGP PRIVATE KEY BLOCK-----\n\nlQOYBF" + filler + "\n",
	"a key of age":                        "AGE-SECRET-KEY-1" + strings.ToUpper(filler),
	"a key of PuTTY":                      "PuTTY-User-Key-File-3: ssh-ed25519\n",
	"a key of WireGuard":                  "PrivateKey = " + filler[:43] + "=",
	"a key as JWK":                        `{"kty":"EC","crv":"P-256","d":"` + filler[:43] + `"}`,
	"a Secret":                            "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\n",
	"a Secret in JSON":                    `{"apiVersion":"v1","kind":"Secret"}`,
	"a list of Secrets":                   "kind: SecretList\n",
	"a service account's token":           "eyJhbGciOiJSUzI1NiIsImtpZCI6IiJ9.eyJpc3MiOiJrdWJlcm5ldGVzIn0." + filler,
	"a bearer token":                      "Authorization: Bearer " + filler,
	"a basic authorization":               "Authorization: Basic dXNlcjpwYXNzd29yZA==",
	"a registry's credentials":            `{"auths":{"quay.io":{"auth":"dXNlcjpwYXNzd29yZA=="}}}`,
	"a registry's identity token":         `{"auths":{"quay.io":{"identitytoken":"` + filler + `"}}}`,
	"a password":                          "username: a\npassword: " + filler[:12] + "\n",
	"a password in an environment":        "ETCD_PASSWORD=" + filler[:12],
	"a password in a URL":                 "https://user:" + filler[:12] + "@quay.io/v2/",
	"a password's hash":                   "root:$6$saltsalt$" + filler + ":19000::::::",
	"a password's hash of yescrypt":       "$y$j9T$saltsalt$" + filler,
	"a key of encryption at rest":         "keys:\n- name: key1\n  secret: " + filler[:43] + "=\n",
	"a certificate key":                   "certificateKey: " + strings.Repeat("0123456789abcdef", 4),
	"a key of AWS":                        "AKIAIOSFODNN7EXAMPLE",
	"a secret key of AWS":                 "aws_secret_access_key = " + filler[:40],
	"a token of GitHub":                   "ghp_" + filler[:36],
	"a newer token of GitHub":             "github_pat_" + filler[:40],
	"a token of GitLab":                   "glpat-" + filler[:20],
	"a token of Docker Hub":               "dckr_pat_" + filler[:27],
	"a token of Slack":                    "xoxb-123456789012-" + filler[:20],
	"a key of Google":                     "AIza" + filler[:35],
	"a token of Vault":                    "hvs." + filler[:30],
	"a storage key of Azure":              "AccountName=a;AccountKey=" + filler + filler[:37] + "==",
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// wrap breaks digits as base64(1) and YAML writers do.
func wrap(s string, width int, indent string) string {
	var b strings.Builder
	for part := range slices.Chunk([]byte(s), width) {
		b.WriteString(indent + string(part) + "\n")
	}
	return b.String()
}

func inUTF16(s string, little bool) string {
	var b []byte
	for _, u := range utf16.Encode([]rune(s)) {
		if little {
			b = append(b, byte(u), byte(u>>8))
		} else {
			b = append(b, byte(u>>8), byte(u))
		}
	}
	return string(b)
}

func inJSON(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}

func inUnicode(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\u%04x`, c)
	}
	return b.String()
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	w.Write([]byte(s))
	w.Close()
	return b.String()
}

func backwards(s string) string {
	b := []byte(s)
	slices.Reverse(b)
	return string(b)
}

// encodings are the ways in which a secret travels.
var encodings = map[string]func(string) string{
	"plain":                         func(s string) string { return s },
	"base64":                        b64,
	"base64 behind one byte":        func(s string) string { return b64(" " + s) },
	"base64 behind two bytes":       func(s string) string { return b64("  " + s) },
	"base64 in the middle":          func(s string) string { return b64("what is before it " + s + " and what is behind it") },
	"base64 of URLs":                func(s string) string { return base64.URLEncoding.EncodeToString([]byte("??>>" + s)) },
	"base64 without padding":        func(s string) string { return base64.RawStdEncoding.EncodeToString([]byte(s)) },
	"base64 of URLs, no padding":    func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte("?" + s)) },
	"base64 behind one digit":       func(s string) string { return "x" + b64(s) },
	"base64 behind two digits":      func(s string) string { return "xy" + b64(s) },
	"base64 behind three digits":    func(s string) string { return "xyz" + b64(s) },
	"base64 in lines of 76":         func(s string) string { return wrap(b64(strings.Repeat("filler ", 20)+s), 76, "") },
	"base64 in indented lines":      func(s string) string { return "a: |\n" + wrap(b64(strings.Repeat("filler ", 20)+s), 64, "    ") },
	"base64 twice":                  func(s string) string { return b64(b64(s)) },
	"hexadecimal":                   func(s string) string { return hex.EncodeToString([]byte(s)) },
	"hexadecimal in capitals":       func(s string) string { return strings.ToUpper(hex.EncodeToString([]byte(s))) },
	"hexadecimal behind a digit":    func(s string) string { return "0" + hex.EncodeToString([]byte(s)) },
	"a URL's path":                  url.PathEscape,
	"a URL's query":                 url.QueryEscape,
	"a string of JSON":              inJSON,
	"a string of JSON in one":       func(s string) string { return inJSON(inJSON(s)) },
	"escapes of Unicode":            inUnicode,
	"UTF-16, little end first":      func(s string) string { return inUTF16(s, true) },
	"UTF-16, big end first":         func(s string) string { return inUTF16(s, false) },
	"UTF-16 in base64":              func(s string) string { return b64(inUTF16(s, true)) },
	"gzip":                          zipped,
	"gzip in base64":                func(s string) string { return b64(zipped(s)) },
	"gzip in base64, in JSON":       func(s string) string { return inJSON("a " + b64(zipped(s)) + " b") },
	"back to front":                 backwards,
	"base64, back to front":         func(s string) string { return backwards(b64(s)) },
	"hexadecimal in base64":         func(s string) string { return b64(hex.EncodeToString([]byte(s))) },
	"base64 in a URL's query":       func(s string) string { return "https://a.example/?q=" + url.QueryEscape(b64(s)) },
	"escapes of C":                  func(s string) string { return strings.ReplaceAll(hexEscaped(s), " ", `\x20`) },
	"behind other text on its line": func(s string) string { return "time=now msg=" + s },
}

func hexEscaped(s string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		fmt.Fprintf(&b, `\x%02X`, c)
	}
	return b.String()
}

// K04: each of the canaries is found in each encoding, on its line, and nothing
// of it is in what is said about it.
func TestK04EveryCanaryIsFoundInEveryEncoding(t *testing.T) {
	if len(canaries) < 25 {
		t.Fatalf("got %d canaries, want 25 at least", len(canaries))
	}
	for name, canary := range canaries {
		for encoding, encode := range encodings {
			f := secrets.Find([]byte("first: line\nsecond: " + encode(canary) + "\nthird: line\n"))
			if f == nil {
				t.Errorf("%s, %s: not found", name, encoding)
				continue
			}
			if strings.Contains(f.String(), filler[:8]) || strings.Contains(f.String(), "abcdef") || strings.Contains(f.String(), "\n") {
				t.Errorf("%s, %s: said %q", name, encoding, f)
			}
			if plain := encoding == "plain" || strings.HasPrefix(encoding, "behind other"); plain && len(f.Encodings) > 0 || !strings.Contains(canary, "\n") && plain && f.Line != 2 {
				t.Errorf("%s, %s: got %s", name, encoding, f)
			}
		}
	}
}

// The sibling of every canary: what speaks of secrets and holds none.
func TestWhatOnlySpeaksOfSecretsIsNone(t *testing.T) {
	for name, text := range map[string]string{
		"certificate":           "-----BEGIN CERTIFICATE-----\n" + wrap(b64(strings.Repeat("\x01\x82", 400)), 64, "") + "-----END CERTIFICATE-----\n",
		"certificate, encoded":  "certificate-authority-data: " + b64("-----BEGIN CERTIFICATE-----\n"+wrap(b64(strings.Repeat("\x30\x82\x01", 300)), 64, "")),
		"public key":            "-----BEGIN PUBLIC KEY-----\nMFkwEwYH\n-----END PUBLIC KEY-----\n",
		"public key of age":     "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p",
		"sealed for age":        "age-encryption.org/v1\n-> X25519 " + filler[:43] + "\n" + filler[:43] + "\n--- " + filler[:43] + "\n\x80\x81\x82",
		"digest":                "sha256:" + strings.Repeat("0123456789abcdef", 4),
		"rights on Secrets":     "resources: [secrets]\nverbs: [get]\n",
		"a class of Secrets":    "kind: SecretProviderClass\n",
		"a mount of a Secret":   "volumes:\n- secret:\n    secretName: kube-apiserver-certificates-of-node\n",
		"a projected token":     "- serviceAccountToken: {path: token}\n",
		"no token mounted":      "automountServiceAccountToken: false\n",
		"a flag about tokens":   "--enable-bootstrap-token-auth=true\n--service-account-key-file=/etc/kubernetes/sa.pub\n",
		"a key's file":          "--tls-private-key-file=/etc/kubernetes/apiserver.key\n",
		"a password's variable": "PASSWORD=${ETCD_PASSWORD}\n",
		"an API group":          "apiGroup: rbac.authorization.k8s.io/v1",
		"a URL with a port":     "https://quay.io:443/v2/",
		"a domain":              "server: https://cluster.example.com:6443",
		"an environment file":   "KUBELET_IMAGE=quay.io/poseidon/kubelet@sha256:" + strings.Repeat("ab", 32),
		"a JWS without claims":  "jws-kubeconfig-abcdef: eyJhbGciOiJIUzI1NiIsImtpZCI6ImFiY2RlZiJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8",
		"nothing":               "",
	} {
		if f := secrets.Find([]byte(text)); f != nil {
			t.Errorf("%s: %s", name, f)
		}
	}
}

func TestAKnownSecretIsFoundWhateverItsShape(t *testing.T) {
	const known = "correct horse battery staple"
	for encoding, encode := range encodings {
		text := []byte("a: b\nc: " + encode(known) + "\n")
		if f := secrets.Find(text, "short", known); f == nil || f.What != "a known secret" {
			t.Errorf("%s: got %v", encoding, f)
		}
		if f := secrets.Find(text); f != nil {
			t.Errorf("%s, not known: got %v", encoding, f)
		}
	}
	if f := secrets.Find([]byte("short"), "short"); f != nil {
		t.Errorf("what is too short to tell: got %v", f)
	}
}

// What nobody can look through is not passed.
func TestWhatIsEncodedTooDeeplyIsAFinding(t *testing.T) {
	text := "nothing that is a secret"
	for range 5 {
		text = b64(text)
	}
	if f := secrets.Find([]byte(text)); f == nil || !strings.Contains(f.What, "more encodings") {
		t.Errorf("got %v", f)
	}
	bomb := zipped(strings.Repeat("a ", 40<<20))
	if f := secrets.Find([]byte(bomb)); f == nil || !strings.Contains(f.What, "more encodings") {
		t.Errorf("a bomb: got %v", f)
	}
	if f := secrets.Find([]byte(strings.Repeat("0", 9000) + strings.Repeat("30", 4000) + strings.Repeat("33", 4000))); f != nil {
		t.Errorf("padding: got %v", f)
	}
	if f := secrets.Find([]byte(b64(b64("nothing that is a secret")))); f != nil {
		t.Errorf("twice: got %v", f)
	}
}

func FuzzFind(f *testing.F) {
	f.Add("a: ", "\n")
	f.Add("QUJD", "====")
	f.Add("%41\\u0041\\x", "\x1f\x8b\x08")
	f.Fuzz(func(t *testing.T, before, after string) {
		if secrets.Find([]byte(before+"\n-----BEGIN RSA PRIVATE KEY-----\n"+after)) == nil {
			t.Errorf("a key between %q and %q was not seen", before, after)
		}
	})
}
