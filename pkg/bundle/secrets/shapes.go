package secrets

import (
	"bytes"
	"regexp"
	"strings"
)

// shape is one kind of secret. It is looked for where one of the anchors is: that
// is as fast as looking for a fixed text.
type shape struct {
	what    string
	anchors []string
	form    *regexp.Regexp // matched around an anchor
	exact   func(data []byte) int
}

// How much around an anchor belongs to a match.
const (
	before = 64
	behind = 512
)

// find returns where the first secret of the shape is, or -1.
func (s shape) find(data []byte) int {
	if s.exact != nil {
		return s.exact(data)
	}
	for _, anchor := range s.anchors {
		for from := 0; ; {
			i := bytes.Index(data[from:], []byte(anchor))
			if i < 0 {
				break
			}
			at := from + i
			if s.form.Match(data[max(0, at-before):min(len(data), at+behind)]) {
				return at
			}
			from = at + len(anchor)
		}
	}
	return -1
}

// like makes a shape of a regular expression and the texts that are in each match.
func like(what, form string, anchors ...string) shape {
	return shape{what: what, anchors: anchors, form: regexp.MustCompile(form)}
}

// value is what is between a key and its value in YAML, JSON, a flag and an environment file.
const value = `["']?\s*[:=]\s*["']?`

// shapes are those that are looked for. Each is wide enough for what tools write,
// and too narrow for what the files of a bundle say of secrets without holding one.
var shapes = []shape{
	like("a private key", `-----BEGIN [A-Z0-9 ]*PRIVATE KEY`, "PRIVATE KEY"),
	like("a private key of age", `AGE-SECRET-KEY-1[0-9A-Z]{20}`, "AGE-SECRET-KEY-1"),
	like("a private key of PuTTY", `PuTTY-User-Key-File-\d`, "PuTTY-User-Key-File-"),
	like("a private key of WireGuard", `PrivateKey\s*=\s*[A-Za-z0-9+/]{43}=`, "PrivateKey"),
	like("a private key as JWK", `"d"\s*:\s*"[A-Za-z0-9_-]{32}`, `"kty"`),
	like("a Secret", `kind["']?\s*:\s*["']?Secret(List)?\b`, "Secret"),
	like("a client key", `client-key(-data)?["']?\s*:\s*\S`, "client-key"),
	like("a token", `token(File)?["']?\s*:\s*\S`, "token"),
	like("a token", `(token|TOKEN)=["']?[A-Za-z0-9+/._~-]{8}`, "token=", "TOKEN="),
	like("a password", `password["']?\s*:\s*\S`, "password"),
	like("a password", `(assword|PASSWORD|PASSWD|passwd)=["']?[^\s"'$]{4}`, "assword=", "PASSWORD=", "PASSWD=", "passwd="),
	like("the hash of a password", `\$(5|6|y|2[aby])\$[./A-Za-z0-9=,$]{20}`, "$5$", "$6$", "$y$", "$2a$", "$2b$", "$2y$"),
	like("a password in a URL", `://[A-Za-z0-9._~%+-]+:[A-Za-z0-9._~%!&*+=,;-]+@[A-Za-z0-9]`, "://"),
	like("a bearer token", `earer [A-Za-z0-9+/._=-]{16}`, "earer "),
	like("an authorization", `uthorization`+value+`(Basic|Digest|Token|AWS4) ?\S{6}`, "uthorization"),
	like("a JSON web token", `eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8}`, "eyJ"),
	like("credentials of a registry", `"(auth|identitytoken|registrytoken)"\s*:\s*"[A-Za-z0-9+/=._-]{8}`, `"auth"`, `"identitytoken"`, `"registrytoken"`),
	like("a key of encryption at rest", `\bsecret`+value+`[A-Za-z0-9+/]{24,}={0,2}`, "secret"),
	like("a certificate key", `certificate-?[kK]ey`+value+`[0-9a-f]{64}`, "certificate"),
	like("a key of AWS", `\b(AKIA|ASIA)[0-9A-Z]{16}\b`, "AKIA", "ASIA"),
	like("a secret key of AWS", `(?i)secret_?access_?key`+value+`[A-Za-z0-9+/]{30}`, "ccess", "CCESS"),
	like("a token of GitHub", `\b(gh[pousr]_[A-Za-z0-9]{30}|github_pat_[A-Za-z0-9_]{22})`, "ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"),
	like("a token of GitLab", `\bglpat-[A-Za-z0-9_-]{20}`, "glpat-"),
	like("a token of Docker Hub", `\bdckr_[a-z]+_[A-Za-z0-9_-]{20}`, "dckr_"),
	like("a token of Slack", `\bxox[abeoprs]-[A-Za-z0-9-]{10}`, "xox"),
	like("a key of Google", `\bAIza[0-9A-Za-z_-]{35}`, "AIza"),
	like("a token of Vault", `\bhv[sbr]\.[A-Za-z0-9_-]{20}`, "hvs.", "hvb.", "hvr."),
	like("a storage key of Azure", `AccountKey=[A-Za-z0-9+/]{40}`, "AccountKey="),
	{what: "a bootstrap token", exact: bootstrapToken},
}

// bootstrapToken returns where six and sixteen letters and digits stand around a
// dot, and are no part of a name or a path.
func bootstrapToken(data []byte) int {
	for from := 0; ; {
		i := bytes.IndexByte(data[from:], '.')
		if i < 0 {
			return -1
		}
		dot := from + i
		from = dot + 1
		start, end := dot-6, dot+17
		if start < 0 || end > len(data) || !all(data[start:dot], lowerOrDigit) || !all(data[dot+1:end], lowerOrDigit) {
			continue
		}
		if (start == 0 || !inName(data[start-1])) && (end == len(data) || !inName(data[end])) {
			return start
		}
	}
}

func all(data []byte, is func(byte) bool) bool {
	for _, b := range data {
		if !is(b) {
			return false
		}
	}
	return true
}

func lowerOrDigit(b byte) bool { return b >= 'a' && b <= 'z' || b >= '0' && b <= '9' }

func inName(b byte) bool { return lowerOrDigit(b) || strings.IndexByte("./-", b) >= 0 }
