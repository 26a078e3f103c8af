package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
	"github.com/imgctl/imgctl/pkg/verify"
)

// tokenVariable holds an identity token, as cosign reads it.
const tokenVariable = "SIGSTORE_ID_TOKEN"

// pinVariable holds the PIN of a PKCS #11 token.
const pinVariable = "IMGCTL_PKCS11_PIN"

// signerFile is one signer of a release file: exactly one of its kinds.
type signerFile struct {
	Key     *keyFile     `yaml:"key"`
	KMS     string       `yaml:"kms"` // "awskms:///alias/release", "pkcs11:token=…"
	Keyless *keylessFile `yaml:"keyless"`
}

// keyFile is a key file and where its password comes from: never the file itself.
type keyFile struct {
	File     string     `yaml:"file"`
	Password secretFile `yaml:"password"`
	Log      *logFile   `yaml:"log"` // absent: its signatures are entered in no log
}

// secretFile says where a secret is.
type secretFile struct {
	Env  string `yaml:"env"`
	File string `yaml:"file"`
}

// keylessFile is a signer with a certificate.
type keylessFile struct {
	Issuer        string     `yaml:"issuer"`  // with subject: who it must be
	Subject       string     `yaml:"subject"` // both absent: whoever the token is for
	Token         secretFile `yaml:"token"`   // absent: SIGSTORE_ID_TOKEN, then GitHub Actions
	Fulcio        string     `yaml:"fulcio"`
	Log           logFile    `yaml:",inline"`
	SigningConfig string     `yaml:"signingConfig"` // signing_config.json of cosign 3, instead of addresses
}

// logFile says where signatures are entered, and what trusts that.
type logFile struct {
	Rekor        string   `yaml:"rekor"`
	RekorVersion int      `yaml:"rekorVersion"` // absent: 1
	Timestamps   []string `yaml:"timestamps"`
	TrustedRoot  string   `yaml:"trustedRoot"` // absent: the built-in public-good one
}

func (s signerFile) check() error {
	kinds := 0
	for _, there := range []bool{s.Key != nil, s.KMS != "", s.Keyless != nil} {
		if there {
			kinds++
		}
	}
	switch {
	case kinds != 1:
		return fmt.Errorf("got %d of key, kms and keyless, want one", kinds)
	case s.Key != nil && s.Key.File == "":
		return errors.New("key: want a file")
	case s.Keyless != nil && (s.Keyless.Issuer == "") != (s.Keyless.Subject == ""):
		return errors.New("keyless: want issuer and subject, or neither for whoever the token is for")
	case s.Keyless != nil && s.Keyless.SigningConfig != "" && (s.Keyless.Fulcio != "" || s.Keyless.Log.Rekor != "" || len(s.Keyless.Log.Timestamps) > 0):
		return errors.New("keyless: got signingConfig and addresses, want one of them")
	case s.onToken():
		_, err := sign.ParsePKCS11(s.KMS)
		return err
	}
	return nil
}

// onToken reports whether the key is on a PKCS #11 token.
func (s signerFile) onToken() bool { return strings.HasPrefix(s.KMS, sign.PKCS11Scheme) }

// String names the signer for a plan, which opens none.
func (s signerFile) String() string {
	switch {
	case s.Key != nil:
		return s.Key.File
	case s.KMS != "":
		return s.KMS
	case s.Keyless.Subject != "":
		return "keyless " + s.Keyless.Subject
	}
	return "keyless"
}

// openSigner opens a signer; path resolves the files that it names.
func (a *app) openSigner(ctx context.Context, s signerFile, path func(string) string) (sign.Signer, error) {
	if err := s.check(); err != nil {
		return nil, usage(err)
	}
	switch {
	case s.Key != nil:
		return a.openKey(s.Key, path)
	case s.onToken():
		return a.openToken(s.KMS, path)
	case s.KMS != "":
		return sign.OpenKMS(ctx, s.KMS)
	}
	return a.openKeyless(s.Keyless, path)
}

func (a *app) openKey(k *keyFile, path func(string) string) (sign.Signer, error) {
	file := k.Password.File
	if file != "" {
		file = path(file)
	}
	password, err := a.password(file, cmp.Or(k.Password.Env, passwordVariable))
	if err != nil {
		return nil, err
	}
	key, err := loadKey(path(k.File), password)
	if err != nil || k.Log == nil {
		return key, err
	}
	services := k.Log.services(a)
	if err := services.Check(); err != nil {
		return nil, usage(err)
	}
	trust, err := verify.LoadTrust(resolved(k.Log.TrustedRoot, path))
	if err != nil {
		return nil, err
	}
	return sign.Logged(key, services, trust)
}

// openToken opens a key on a token. The PIN comes from the file that the URI
// names, or from the environment.
func (a *app) openToken(uri string, path func(string) string) (sign.Signer, error) {
	key, err := sign.ParsePKCS11(uri)
	if err != nil {
		return nil, usage(err)
	}
	if key.PINSource != "" {
		pin, err := readSecret(path(key.PINSource))
		if err != nil {
			return nil, err
		}
		return sign.OpenPKCS11(key, pin)
	}
	pin := a.getenv(pinVariable)
	if pin == "" {
		return nil, hint(usage(fmt.Errorf("no PIN for %s", key)), "set %s, or add pin-source=file:PATH to the URI", pinVariable)
	}
	return sign.OpenPKCS11(key, sign.Secret(pin))
}

// services are those of the addresses that are given, else of the public-good Sigstore.
func (l *logFile) services(a *app) sign.Services {
	s := sign.PublicGood()
	s.HTTP, s.Now = a.servicesHTTP(), a.now
	if l.Rekor != "" {
		s.Logs = []sign.Log{{URL: l.Rekor, Version: cmp.Or(l.RekorVersion, 1)}}
	}
	s.Timestamps = l.Timestamps
	return s
}

// servicesHTTP talks to the parts of a Sigstore, to none of them with --offline.
func (a *app) servicesHTTP() *http.Client {
	if a.offline {
		return &http.Client{Transport: offlineTransport{}}
	}
	return nil // Go's own, which honours HTTPS_PROXY and SSL_CERT_FILE
}

func (a *app) openKeyless(k *keylessFile, path func(string) string) (sign.Signer, error) {
	services := k.Log.services(a)
	if k.Fulcio != "" {
		services.Fulcio = k.Fulcio
	}
	if k.SigningConfig != "" {
		data, err := os.ReadFile(path(k.SigningConfig))
		if err != nil {
			return nil, err
		}
		chosen, err := sign.ParseSigningConfig(data, a.now())
		if err != nil {
			return nil, usage(fmt.Errorf("%s: %w", k.SigningConfig, err))
		}
		services.Fulcio, services.Logs, services.Timestamps = chosen.Fulcio, chosen.Logs, chosen.Timestamps
	}
	if err := services.Check(); err != nil {
		return nil, usage(err)
	}
	trust, err := verify.LoadTrust(resolved(k.Log.TrustedRoot, path))
	if err != nil {
		return nil, err
	}
	token, err := a.tokenSource(k.Token, services, path)
	if err != nil && k.Subject == "" {
		return nil, err
	}
	if err != nil { // who it must be is known: what is signed already needs none
		missing := err
		token = func(context.Context) (sign.Secret, error) { return nil, missing }
	}
	return &sign.Keyless{Token: token, Services: services, Trust: trust, Identity: sign.Identity{Subject: k.Subject, Issuer: k.Issuer}}, nil
}

// tokenSource is where identity tokens come from: never an argument.
func (a *app) tokenSource(from secretFile, s sign.Services, path func(string) string) (sign.TokenSource, error) {
	if from.File != "" {
		return sign.FileToken(path(from.File)), nil
	}
	variable := cmp.Or(from.Env, tokenVariable)
	if token := a.getenv(variable); token != "" {
		return sign.FixedToken(sign.Secret(token)), nil
	}
	address, bearer := a.getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), a.getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if from.Env == "" && address != "" && bearer != "" {
		return sign.GitHubToken(s, address, sign.Secret(bearer)), nil
	}
	return nil, hint(usage(errors.New("no identity token")), "set %s, give a token file, or run in a GitHub job with the permission id-token: write", variable)
}

// resolved is path(p), and nothing for nothing.
func resolved(p string, path func(string) string) string {
	if p == "" {
		return ""
	}
	return path(p)
}

// keepAll lets signers whose signatures vary find their earlier ones at the
// destinations and the repositories of the bundles beside them.
func keepAll(reg *oci.Client, signers []sign.Signer, names []string) ([]sign.Signer, error) {
	var repositories []*oci.Repository
	for _, name := range names {
		repo, err := reg.Repository(name)
		if err != nil {
			return nil, err
		}
		repositories = append(repositories, repo)
	}
	kept := make([]sign.Signer, len(signers))
	for i, s := range signers {
		kept[i] = sign.Keep(s, repositories...)
	}
	return kept, nil
}

// loadKey opens an encrypted private key file.
func loadKey(path string, password sign.Secret) (*sign.Key, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, hint(fmt.Errorf("read key: %w", err), "imgctl keygen makes one")
	}
	key, err := sign.LoadKey(pem, password)
	if err != nil {
		return nil, usage(fmt.Errorf("%s: %w", path, err))
	}
	return key, nil
}

// signFormats are the layouts in which signatures are published.
type signFormats struct{ bundle, legacy bool }

// parseFormats parses "bundle" and "legacy"; none means both, so that readers of
// every age see a signature.
func parseFormats(names []string) (signFormats, error) {
	if len(names) == 0 {
		return signFormats{bundle: true, legacy: true}, nil
	}
	for i, n := range names {
		if n != "bundle" && n != "legacy" {
			return signFormats{}, fmt.Errorf("formats: got %q, want bundle or legacy", n)
		}
		if slices.Contains(names[:i], n) {
			return signFormats{}, fmt.Errorf("formats: %s is there twice", n)
		}
	}
	return signFormats{slices.Contains(names, "bundle"), slices.Contains(names, "legacy")}, nil
}
