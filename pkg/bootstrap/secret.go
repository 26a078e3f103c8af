package bootstrap

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Grant is a token, and what the cluster is told about it.
type Grant struct {
	Token       Token
	Expires     time.Time // UTC, whole seconds; zero when only the token itself is known
	Description string
	Groups      []string // besides system:bootstrappers
}

// Expired is the error for a token that is past its time.
type Expired struct {
	ID string // of the token
	At time.Time
}

// Error is one line.
func (e *Expired) Error() string {
	return fmt.Sprintf("bootstrap token %s: expired at %s", e.ID, e.At.Format(time.RFC3339))
}

// Valid reports an [*Expired] when the token cannot be used at now.
func (g Grant) Valid(now time.Time) error {
	if !g.Expires.IsZero() && !now.Before(g.Expires) {
		return &Expired{ID: g.Token.ID(), At: g.Expires}
	}
	return nil
}

// groupForm is what Kubernetes accepts as an extra group.
var groupForm = regexp.MustCompile(`\Asystem:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]\z`)

// checkGroup refuses a group that would make Kubernetes refuse the whole token.
func checkGroup(g string) error {
	if !groupForm.MatchString(g) {
		return fmt.Errorf("got %q, want system:bootstrappers:… of lower-case letters, digits, colons and dashes", g)
	}
	return nil
}

// Keys of the Secret of a token (Kubernetes, "Authenticating with Bootstrap Tokens").
const (
	secretNamespace = "kube-system"
	secretPrefix    = "bootstrap-token-"
	keyID           = "token-id"
	keySecret       = "token-secret"
	keyExpiration   = "expiration"
	keyDescription  = "description"
	keyGroups       = "auth-extra-groups"
	keySigning      = "usage-bootstrap-signing"
	keyAuth         = "usage-bootstrap-authentication"
)

// Manifest returns the Secret by which the API server, the signer and the
// cleaner know the token: it authenticates, signs cluster-info, and expires.
func (g Grant) Manifest() ([]byte, error) {
	data := map[string]string{
		keyID:         g.Token.id,
		keySecret:     g.Token.secret,
		keyExpiration: g.Expires.UTC().Format(time.RFC3339),
		keySigning:    "true",
		keyAuth:       "true",
	}
	if g.Description != "" {
		data[keyDescription] = g.Description
	}
	if len(g.Groups) > 0 {
		data[keyGroups] = strings.Join(g.Groups, ",")
	}
	return yaml.Marshal(corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: secretPrefix + g.Token.id, Namespace: secretNamespace},
		Type:       corev1.SecretTypeBootstrapToken,
		StringData: data,
	})
}

// ReadGrant reads a token alone, with white space around it, or its manifest.
func ReadGrant(text []byte) (Grant, error) {
	text = bytes.TrimSpace(text)
	if bytes.ContainsAny(text, ":\n") { // a manifest has both, a token neither
		return ParseGrant(text)
	}
	token, err := ParseToken(string(text))
	return Grant{Token: token}, err
}

// ParseGrant reads the manifest of a token as Kubernetes would take it. No error
// repeats what is in it.
func ParseGrant(manifest []byte) (Grant, error) {
	var s corev1.Secret
	if err := yaml.UnmarshalStrict(manifest, &s); err != nil {
		return Grant{}, errors.New("bootstrap token: no manifest of a Secret")
	}
	value := func(key string) string {
		if v, ok := s.StringData[key]; ok { // wins in the API server too
			return v
		}
		return string(s.Data[key])
	}
	token, err := ParseToken(value(keyID) + "." + value(keySecret))
	if err != nil {
		return Grant{}, err
	}
	if s.Kind != "Secret" || s.Type != corev1.SecretTypeBootstrapToken || s.Namespace != secretNamespace || s.Name != secretPrefix+token.id {
		return Grant{}, fmt.Errorf("bootstrap token: want a Secret %s/%s%s of type %s", secretNamespace, secretPrefix, token.id, corev1.SecretTypeBootstrapToken)
	}
	g := Grant{Token: token, Description: value(keyDescription)}
	if g.Expires, err = time.Parse(time.RFC3339, value(keyExpiration)); err != nil {
		return Grant{}, fmt.Errorf("bootstrap token %s: %s: want a time as in RFC 3339", token.id, keyExpiration)
	}
	if value(keySigning) != "true" || value(keyAuth) != "true" {
		return Grant{}, fmt.Errorf("bootstrap token %s: want %s and %s", token.id, keySigning, keyAuth)
	}
	if groups := value(keyGroups); groups != "" {
		g.Groups = strings.Split(groups, ",")
	}
	if i := slices.IndexFunc(g.Groups, func(group string) bool { return checkGroup(group) != nil }); i >= 0 {
		return Grant{}, fmt.Errorf("bootstrap token %s: %s: %w", token.id, keyGroups, checkGroup(g.Groups[i]))
	}
	return g, nil
}
