package sign

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sigstore/sigstore/pkg/signature/kms"
	"github.com/sigstore/sigstore/pkg/signature/options"
)

const verifierHash = crypto.SHA256

// noTime is the end of a key's window that has none.
var noTime time.Time

// kmsTags are the build tags that bring the services which are not built in. Each
// costs megabytes, and few need any.
var kmsTags = []struct{ scheme, tag string }{
	{"awskms://", "kms_aws"},
	{"azurekms://", "kms_azure"},
	{"gcpkms://", "kms_gcp"},
	{"hashivault://", "kms_hashivault"},
}

// OpenKMS returns a signer whose ECDSA P-256 key a service keeps, by its URI in
// sigstore's notation ("awskms:///alias/release"). Services are brought by build
// tags; any other scheme is a program sigstore-kms-SCHEME on the PATH.
// Credentials are the service's own business.
func OpenKMS(ctx context.Context, uri string) (Recognizer, error) {
	if tag := missingTag(uri, kms.SupportedProviders()); tag != "" {
		return nil, fmt.Errorf("open key %s: imgctl was built without its service: build it with -tags %s", uri, tag)
	}
	service, err := kms.Get(ctx, uri, verifierHash)
	var unknown *kms.ProviderNotFoundError
	if errors.As(err, &unknown) {
		return nil, fmt.Errorf("open key %s: no such service: want one of %s, or a program sigstore-kms-SCHEME on the PATH", uri, schemes())
	}
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", uri, err)
	}
	public, err := service.PublicKey(options.WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("open key %s: %w", uri, err)
	}
	key, ok := public.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() {
		return nil, fmt.Errorf("open key %s: got %T, want ECDSA P-256", uri, public)
	}
	return newKeySigner(uri, key, func(ctx context.Context, digest []byte) ([]byte, error) {
		return service.SignMessage(bytes.NewReader(nil), options.WithContext(ctx), options.WithDigest(digest), options.WithCryptoSignerOpts(verifierHash))
	}, Services{}, nil)
}

// missingTag returns the build tag that would bring the service of the URI, ""
// where it is built in or none of ours.
func missingTag(uri string, have []string) string {
	for _, k := range kmsTags {
		if !strings.HasPrefix(uri, k.scheme) {
			continue
		}
		for _, h := range have {
			if h == k.scheme {
				return ""
			}
		}
		return k.tag
	}
	return ""
}

func schemes() string {
	var list []string
	for _, k := range kmsTags {
		list = append(list, k.scheme)
	}
	return strings.Join(list, ", ")
}
