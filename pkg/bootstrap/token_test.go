package bootstrap

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bootstrapapi "k8s.io/cluster-bootstrap/token/api"
	upstreamjws "k8s.io/cluster-bootstrap/token/jws"
	bootstraputil "k8s.io/cluster-bootstrap/token/util"
	"sigs.k8s.io/yaml"

	corev1 "k8s.io/api/core/v1"
)

// Kubernetes' own rule is the judge of what a token is.
func TestATokenIsOneForKubernetesToo(t *testing.T) {
	seen := map[string]bool{}
	count := map[rune]int{}
	for range 2000 {
		token := NewToken()
		text := token.Reveal()
		if !bootstraputil.IsValidBootstrapToken(text) || !bootstraputil.IsValidBootstrapTokenID(token.ID()) || seen[text] {
			t.Fatalf("%q is no token, or came twice", text)
		}
		seen[text] = true
		for _, r := range strings.Replace(text, ".", "", 1) {
			count[r]++
		}
	}
	// 44,000 characters: each of the 36 is due 1,222 times. With the remainder of
	// a byte the first four would come 1,203+172 times; 5 standard deviations are 172.
	for _, r := range alphabet {
		if n := count[r]; n < 1222-172 || n > 1222+172 {
			t.Errorf("%c came %d times of 44000, want about 1222", r, n)
		}
	}
}

func TestParseTokenRefusesAndRepeatsNothing(t *testing.T) {
	if _, err := ParseToken("abcdef.0123456789abcdef"); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"", "abcdef.0123456789abcde", "abcdef.0123456789abcdef0", "Abcdef.0123456789abcdef", "abcdef:0123456789abcdef", "abcdef.0123456789abcdef\n", " abcdef.0123456789abcdef", "аbcdef.0123456789abcdef"} {
		_, err := ParseToken(text)
		if err == nil || text != "" && strings.Contains(err.Error(), strings.TrimSpace(text)) {
			t.Errorf("%q: got %v, want an error that does not repeat it", text, err)
		}
		if bootstraputil.IsValidBootstrapToken(text) {
			t.Errorf("%q: Kubernetes accepts it", text)
		}
	}
}

// K04: however a token is printed, its secret is not.
func TestK04NoFormOfPrintingShowsTheSecret(t *testing.T) {
	token, err := ParseToken("abcdef.0123456789abcdef")
	if err != nil {
		t.Fatal(err)
	}
	g := Grant{Token: token}
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("m", "token", token, "grant", g)
	document, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	all := fmt.Sprintf("%v %+v %#v %s %q %v %+v %#v %v", token, token, token, token, token, g, g, g, &g) + log.String() + string(document)
	if strings.Contains(all, "0123456789abcdef") {
		t.Errorf("the secret is in %s", all)
	}
	if !strings.Contains(all, "abcdef.REDACTED") {
		t.Errorf("the id is not in %s", all)
	}
}

// The vector of Kubernetes' own test, and its own code as a second opinion.
func TestTheSignatureIsThatOfTheBootstrapSigner(t *testing.T) {
	const content = "Hello from the other side. I must have called a thousand times."
	joshua := Token{id: "joshua", secret: "my voice is my passcode"}
	const want = "eyJhbGciOiJIUzI1NiIsImtpZCI6Impvc2h1YSJ9..VShe2taLd-YTrmWuRkcL_8QTNDHYxQIEBsAYYiIj1_8"
	if got := joshua.sign([]byte(content)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	for _, content := range []string{"", "a", strings.Repeat("x\n", 4000)} {
		token := NewToken()
		theirs, err := upstreamjws.ComputeDetachedSignature(content, token.id, token.secret)
		if err != nil {
			t.Fatal(err)
		}
		if ours := token.sign([]byte(content)); ours != theirs || !token.verifies(theirs, []byte(content)) {
			t.Errorf("got %s, want %s", ours, theirs)
		}
	}
}

func TestASignatureVerifiesForItsContentAndTokenAlone(t *testing.T) {
	token, other := NewToken(), NewToken()
	jws := token.sign([]byte("content"))
	if !token.verifies(jws, []byte("content")) {
		t.Fatal("it does not verify at all")
	}
	sameID := Token{id: token.id, secret: other.secret}
	none := strings.Replace(jws, jws[:strings.Index(jws, ".")], "eyJhbGciOiJub25lIn0", 1)
	for name, ok := range map[string]bool{
		"other content":      token.verifies(jws, []byte("content.")),
		"other token":        other.verifies(jws, []byte("content")),
		"same id":            sameID.verifies(jws, []byte("content")),
		"one byte":           token.verifies(jws[:len(jws)-2]+"AA", []byte("content")),
		"with padding":       token.verifies(jws+"=", []byte("content")),
		"empty":              token.verifies("", []byte("content")),
		"algorithm none":     token.verifies(none, []byte("content")),
		"attached to itself": token.verifies(strings.Replace(jws, "..", ".Y29udGVudA.", 1), []byte("content")),
	} {
		if ok {
			t.Errorf("%s: verifies", name)
		}
	}
}

func TestTheSecretOfATokenIsAsKubernetesReadsIt(t *testing.T) {
	g, err := newGrant(TokenOptions{TTL: time.Hour, Description: "for workers: 0x10", Groups: []string{DefaultGroup, "system:bootstrappers:typhoon"}}, noon)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := g.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var s corev1.Secret
	if err := yaml.UnmarshalStrict(manifest, &s); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		bootstrapapi.BootstrapTokenIDKey:               g.Token.id,
		bootstrapapi.BootstrapTokenSecretKey:           g.Token.secret,
		bootstrapapi.BootstrapTokenExpirationKey:       "2026-07-01T13:00:00Z",
		bootstrapapi.BootstrapTokenDescriptionKey:      "for workers: 0x10",
		bootstrapapi.BootstrapTokenExtraGroupsKey:      DefaultGroup + ",system:bootstrappers:typhoon",
		bootstrapapi.BootstrapTokenUsageSigningKey:     "true",
		bootstrapapi.BootstrapTokenUsageAuthentication: "true",
	}
	if diff := cmp.Diff(want, s.StringData); diff != "" {
		t.Error(diff)
	}
	if s.Type != bootstrapapi.SecretTypeBootstrapToken || s.Name != bootstraputil.BootstrapTokenSecretName(g.Token.id) || s.Namespace != "kube-system" {
		t.Errorf("got %s %s/%s", s.Type, s.Namespace, s.Name)
	}
	for _, group := range g.Groups {
		if err := bootstraputil.ValidateBootstrapGroupName(group); err != nil {
			t.Error(err)
		}
	}
	back, err := ParseGrant(manifest)
	if err != nil || back.Token != g.Token || !back.Expires.Equal(g.Expires) || !cmp.Equal(back.Groups, g.Groups) {
		t.Errorf("got %+v and %v back, want %+v", back, err, g)
	}
}

func TestGroupsAreThoseThatKubernetesAccepts(t *testing.T) {
	for _, g := range []string{DefaultGroup, "system:bootstrappers:a", "system:bootstrappers:", "system:bootstrappers:A", "system:masters", "system:bootstrappers:a,b", "system:bootstrappers:a-", "system:bootstrappers:a\n"} {
		if ours, theirs := checkGroup(g), bootstraputil.ValidateBootstrapGroupName(g); (ours == nil) != (theirs == nil) {
			t.Errorf("%q: got %v, Kubernetes says %v", g, ours, theirs)
		}
	}
}

func TestATokenEndsAtItsTime(t *testing.T) {
	g := Grant{Token: NewToken(), Expires: noon}
	if err := g.Valid(noon.Add(-time.Nanosecond)); err != nil {
		t.Error(err)
	}
	var expired *Expired
	if err := g.Valid(noon); !errors.As(err, &expired) || expired.ID != g.Token.ID() {
		t.Errorf("got %v, want *Expired", err)
	}
}

func TestAManifestThatKubernetesWouldNotTakeIsRefused(t *testing.T) {
	g := Grant{Token: Token{"abcdef", "0123456789abcdef"}, Expires: noon, Groups: []string{DefaultGroup}}
	good, err := g.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ old, new, want string }{
		"another type":      {"type: bootstrap.kubernetes.io/token", "type: Opaque", "want a Secret kube-system/bootstrap-token-abcdef"},
		"another name":      {"name: bootstrap-token-abcdef", "name: bootstrap-token-abcdeg", "want a Secret"},
		"another namespace": {"namespace: kube-system", "namespace: default", "want a Secret"},
		"no expiration":     {`expiration: "2026-07-01T12:00:00Z"`, `description: x`, "expiration"},
		"expiration":        {"2026-07-01T12", "tomorrow", "expiration"},
		"no signing":        {`usage-bootstrap-signing: "true"`, `usage-bootstrap-signing: "yes"`, "usage-bootstrap-signing"},
		"a bad group":       {DefaultGroup, "system:masters", "auth-extra-groups"},
		"a bad secret":      {"0123456789abcdef", "0123456789ABCDEF", "want [a-z0-9]{6}"},
		"unknown key":       {"type: boot", "tpye: boot", "no manifest of a Secret"},
		"not YAML":          {"stringData:", "stringData: [", "no manifest of a Secret"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(string(good), tt.old, tt.new, 1)
			if text == string(good) {
				t.Fatalf("%q is not in %s", tt.old, good)
			}
			_, err := ParseGrant([]byte(text))
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(strings.ToLower(err.Error()), "0123456789abcdef") {
				t.Errorf("got %v, want %q and no secret", err, tt.want)
			}
		})
	}
}

func FuzzParseToken(f *testing.F) {
	f.Add("abcdef.0123456789abcdef")
	f.Add("abcdef.0123456789abcdef\n")
	f.Fuzz(func(t *testing.T, text string) {
		token, err := ParseToken(text)
		if (err == nil) != bootstraputil.IsValidBootstrapToken(text) {
			t.Fatalf("%q: got %v, Kubernetes says %t", text, err, err != nil)
		}
		if err == nil && (token.Reveal() != text || !HoldsToken("a "+text+" b")) {
			t.Errorf("%q does not come back", text)
		}
	})
}

func FuzzParseGrant(f *testing.F) {
	manifest, err := (Grant{Token: Token{"abcdef", "0123456789abcdef"}, Expires: noon, Groups: []string{DefaultGroup}}).Manifest()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(manifest)
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := ParseGrant(data)
		if err != nil {
			return
		}
		again, err := g.Manifest()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseGrant(again); err != nil {
			t.Errorf("accepted, and not when it is written again: %v", err)
		}
	})
}
