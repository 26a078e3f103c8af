package main

import (
	"fmt"
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imgctl/imgctl/internal/imgtest"
)

// startSigstore is "sigstore": the services of a Sigstore on loopback, with their
// addresses and an identity token in the environment, and in files: what trusts
// them, a policy that trusts the token's identity, and the token.
func startSigstore(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, _ []string) {
		s, err := imgtest.NewSigstore(nil)
		ts.Check(err)
		v := s.Serve(t)
		root, err := s.TrustedRoot()
		ts.Check(err)
		token := v.Token("release@example.com", nil)
		for name, value := range map[string]string{
			"FULCIO": v.Fulcio(), "REKOR": v.RekorV1(), "TSA": v.TSA(), "ISSUER": v.Issuer(), "SIGSTORE_ID_TOKEN": token,
			"TOKEN_URL": v.TokenURL(), "TOKEN_BEARER": imgtest.GitHubBearer,
		} {
			ts.Setenv(name, value)
		}
		policy := fmt.Sprintf("apiVersion: imgctl.dev/v1\nkind: Policy\nrules:\n- repositories: [%s/kubelet]\n"+
			"  signers: {any: [{keyless: {issuer: %q, subject: release@example.com, trustedRoot: sigstore.json}}]}\n", ts.Getenv("A"), v.Issuer())
		for name, data := range map[string][]byte{
			"sigstore.json": root, "signing_config.json": v.SigningConfig(), "keyless.yaml": []byte(policy), "token": []byte(token),
		} {
			ts.Check(os.WriteFile(ts.MkAbs(name), data, 0o600))
		}
	}
}
