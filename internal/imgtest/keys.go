package imgtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/pkg/sign"
)

// SigningKey makes a throw-away key. It costs nothing: no key file, no scrypt.
func SigningKey(t testing.TB) *sign.Key {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	k, err := sign.NewKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// KeyFiles writes a key pair to dir, as `imgctl keygen` and cosign do:
// name.key, encrypted with the password, and name.pub. It takes 0.2 s.
func KeyFiles(t testing.TB, dir, name, password string) (private, public string) {
	t.Helper()
	key, pub, err := sign.GenerateKey(sign.Secret(password))
	if err != nil {
		t.Fatal(err)
	}
	private, public = filepath.Join(dir, name+".key"), filepath.Join(dir, name+".pub")
	writeFile(t, private, key, 0o600)
	writeFile(t, public, pub, 0o644)
	return private, public
}

// PolicyFile writes a policy to dir/policy.yaml, and the public keys beside it.
// It trusts any of the keys for the repositories, which are also its sources,
// in order. It returns the path of the policy.
func PolicyFile(t testing.TB, dir string, repositories []string, keys ...*sign.Key) string {
	t.Helper()
	var signers strings.Builder
	for i, k := range keys {
		file := fmt.Sprintf("release-%d.pub", i+1)
		writeFile(t, filepath.Join(dir, file), k.PublicPEM(), 0o644)
		fmt.Fprintf(&signers, "    - key: {file: %s}\n", file)
	}
	list := `["` + strings.Join(repositories, `", "`) + `"]`
	policy := fmt.Sprintf("apiVersion: imgctl.dev/v1\nkind: Policy\nrules:\n- repositories: %s\n  sources: %s\n  signers:\n    any:\n%s", list, list, &signers)
	path := filepath.Join(dir, "policy.yaml")
	writeFile(t, path, []byte(policy), 0o644)
	return path
}

// writeFile writes with exactly these permissions, whatever the umask.
func writeFile(t testing.TB, path string, data []byte, perm os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, data, perm); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, perm); err != nil {
		t.Fatal(err)
	}
}
