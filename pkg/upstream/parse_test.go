package upstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"strings"
	"testing"

	"golang.org/x/mod/semver"
)

var digest = strings.Repeat("0123456789abcdef", 4) // as a sha256 looks

// U04, U05
func TestParseChecksum(t *testing.T) {
	for name, tt := range map[string]struct {
		data string
		good bool
	}{
		"digest alone":         {digest, true},
		"line end":             {digest + "\n", true},
		"CRLF":                 {digest + "\r\n", true},
		"upper case":           {strings.ToUpper(digest), true},
		"sha256sum":            {digest + "  kubelet\n", true},
		"sha256sum --binary":   {digest + " *kubelet\r\n", true},
		"another file's name":  {digest + "  kubectl\n", false},
		"path":                 {digest + "  bin/kubelet\n", false},
		"one space":            {digest + " kubelet\n", false},
		"name without space":   {digest + "kubelet\n", false},
		"byte order mark":      {"\xef\xbb\xbf" + digest, false},
		"leading space":        {" " + digest, false},
		"trailing space":       {digest + " ", false},
		"BSD form":             {"SHA256 (kubelet) = " + digest, false},
		"prefixed":             {"sha256:" + digest, false},
		"two lines":            {digest + "\n" + digest + "\n", false},
		"two lines, one right": {digest + "  kubelet\n" + digest + "  kubectl\n", false},
		"blank second line":    {digest + "\n\n", false},
		"bare CR":              {digest + "\r" + digest, false},
		"short":                {digest[1:], false},
		"long":                 {digest + "0", false},
		"not hex":              {"g" + digest[1:], false},
		"NUL":                  {digest + "\x00", false},
		"empty":                {"", false},
	} {
		got, err := parseChecksum([]byte(tt.data), "kubelet", sha256.Size)
		if (err == nil) != tt.good || tt.good && got != digest {
			t.Errorf("%s: got %q, %v; want accepted: %v", name, got, err, tt.good)
		}
		if err != nil && strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the message has several lines: %v", name, err)
		}
	}
}

func FuzzParseChecksum(f *testing.F) {
	for _, s := range []string{digest, digest + "  kubelet\r\n", digest + "\n" + digest, "<html>", "\xef\xbb\xbf"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := parseChecksum(data, "kubelet", sha256.Size)
		if err != nil {
			return
		}
		if !isHex(got, 64) || !strings.EqualFold(string(data[:64]), got) || len(data) > 64+len("  kubelet\r\n") {
			t.Errorf("read %q out of %q", got, data)
		}
	})
}

func FuzzParseChannel(f *testing.F) {
	for _, s := range []string{"v1.36.2", "v1.36.2\r\n", "v1.37.0-rc.1", "../../x", "v1.36.2\nv1.36.3"} {
		f.Add("stable-1.36", []byte(s))
	}
	f.Add("latest", []byte("v1.37.0-alpha.0\n"))
	f.Fuzz(func(t *testing.T, channel string, data []byte) {
		v, err := parseChannel(channel, data)
		if err != nil {
			return
		}
		if !semver.IsValid(v) || semver.Canonical(v) != v || semver.Build(v) != "" || strings.ContainsAny(v, "/\\ \n") {
			t.Errorf("accepted %q", v)
		}
	})
}

func TestParseCertificateTakesPEMAndItsBase64(t *testing.T) {
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("der")})
	key := pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: []byte("der")})
	b64 := func(b []byte) []byte { return []byte(base64.StdEncoding.EncodeToString(b)) }
	for name, tt := range map[string]struct {
		data []byte
		good bool
	}{
		"PEM":             {block, true},
		"base64 of PEM":   {b64(block), true},
		"with line ends":  {append(b64(block), "\r\n"...), true},
		"two of them":     {append(bytes.Clone(block), block...), false},
		"a key":           {key, false},
		"base64 of a key": {b64(key), false},
		"text after it":   {append(bytes.Clone(block), "text"...), false},
		"not base64":      {[]byte("????"), false},
		"empty":           {nil, false},
	} {
		got, err := parseCertificate(tt.data)
		if (err == nil) != tt.good || tt.good && !bytes.Equal(got, block) {
			t.Errorf("%s: got %q, %v; want accepted: %v", name, got, err, tt.good)
		}
	}
}

// entryJSON is an entry in the form of Rekor's API, with changes by old and new text.
func entryJSON(changes ...string) string {
	body := base64.StdEncoding.EncodeToString([]byte(`{"apiVersion":"0.0.1","kind":"hashedrekord","spec":{"data":{"hash":{"algorithm":"sha256","value":"` + digest + `"}},"signature":{"content":"c2ln","publicKey":{"content":"cGVt"}}}}`))
	return strings.NewReplacer(changes...).Replace(`{"` + digest + `":{"attestation":{},"body":"` + body + `","integratedTime":1700000000,"logID":"` + digest + `","logIndex":12,` +
		`"verification":{"inclusionProof":{"checkpoint":"note","hashes":["` + digest + `"],"logIndex":3,"rootHash":"` + digest + `","treeSize":4},"signedEntryTimestamp":"c2V0"}}}`)
}

func TestParseLogEntry(t *testing.T) {
	e, err := ParseLogEntry([]byte(entryJSON()))
	if err != nil {
		t.Fatal(err)
	}
	h, err := e.HashedRekord()
	if err != nil {
		t.Fatal(err)
	}
	if e.UUID != digest || e.IntegratedTime != 1700000000 || e.LogIndex != 12 || string(e.SET) != "set" || e.Proof.TreeSize != 4 || len(e.Proof.Hashes) != 1 {
		t.Errorf("got %+v", e)
	}
	if h.SHA256 != digest || string(h.Signature) != "sig" || string(h.PublicKey) != "pem" {
		t.Errorf("got %+v", h)
	}
	for name, data := range map[string]string{
		"no entry":            `{}`,
		"null":                `null`,
		"a list":              `[]`,
		"two entries":         `{"` + digest + `":{},"x` + digest[1:] + `":{}}`,
		"two values":          entryJSON() + "{}",
		"UUID with a path":    entryJSON(`{"`+digest, `{"../`+digest),
		"no promise":          entryJSON(`"c2V0"`, `""`),
		"no time":             entryJSON("1700000000", "0"),
		"negative index":      entryJSON(`"logIndex":12`, `"logIndex":-1`),
		"short log ID":        entryJSON(`"logID":"01`, `"logID":"`),
		"body not base64":     entryJSON(`"body":"`, `"body":"?`),
		"index beyond tree":   entryJSON(`"treeSize":4`, `"treeSize":3`),
		"short root":          entryJSON(`"rootHash":"01`, `"rootHash":"`),
		"no checkpoint":       entryJSON(`"note"`, `""`),
		"too many hashes":     entryJSON(`"hashes":[`, `"hashes":[`+strings.Repeat(`"`+digest+`",`, 64)),
		"too large":           entryJSON() + strings.Repeat(" ", maxLogEntry),
		"time not an integer": entryJSON("1700000000", `1.5`),
	} {
		if e, err := ParseLogEntry([]byte(data)); err == nil {
			t.Errorf("%s: got %+v, want an error", name, e)
		}
	}
}

func FuzzParseLogEntry(f *testing.F) {
	f.Add([]byte(entryJSON()))
	f.Add([]byte(entryJSON("note", "")))
	f.Add([]byte(`{"` + digest + `":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseLogEntry(data)
		if err != nil {
			return
		}
		e.HashedRekord() // must not panic
		again, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		if len(again) > maxLogEntry {
			return // JSON escapes made it longer than what is read back
		}
		e2, err := ParseLogEntry(again)
		if err != nil {
			t.Fatalf("%v: %s", err, again)
		}
		if third, _ := json.Marshal(e2); !bytes.Equal(again, third) {
			t.Errorf("written twice: %s and %s", again, third)
		}
	})
}

func TestParseEvidence(t *testing.T) {
	good := `{"signature":"c2ln","certificate":"cGVt","logEntry":` + entryJSON() + `}`
	if _, err := ParseEvidence([]byte(good)); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string]string{
		"unknown member": strings.Replace(good, `"signature"`, `"x":1,"signature"`, 1),
		"no signature":   strings.Replace(good, `c2ln`, ``, 1),
		"no certificate": strings.Replace(good, `cGVt`, ``, 1),
		"no log entry":   `{"signature":"c2ln","certificate":"cGVt"}`,
		"two values":     good + good,
		"too large":      good + strings.Repeat(" ", maxEvidence),
		"empty":          "",
	} {
		if _, err := ParseEvidence([]byte(data)); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func FuzzParseEvidence(f *testing.F) {
	f.Add([]byte(`{"signature":"c2ln","certificate":"cGVt","logEntry":` + entryJSON() + `}`))
	f.Add([]byte(`{"logEntry":{}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEvidence(data)
		if err == nil && (len(e.Signature) == 0 || len(e.Certificate) == 0 || len(e.LogEntry) == 0) {
			t.Errorf("accepted %+v", e)
		}
	})
}
