//go:build e2e

package e2e

import (
	"encoding/pem"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/peers"
)

// softHSM is a token in files, and an imgctl that was built to use one.
type softHSM struct {
	imgctl string
	env    []string
	dir    string
	public string // the key's public half, PEM
}

const (
	softHSMModule = "/usr/lib/softhsm/libsofthsm2.so"
	softHSMKey    = "pkcs11:token=release;object=kubelet?module-path=" + softHSMModule
	softHSMPIN    = "31415926"
)

// The key never leaves the token, and nobody but its owner is told the PIN.
func TestKeyOnATokenSigns(t *testing.T) {
	h := newSoftHSM(t)
	ref := strings.TrimSpace(output(t, h.command(t, "", "push", "-q", "oci:layout:latest", shared.Registries[0].Addr+"/pkcs11/tool")))
	refused(t, h.command(t, "", "verify", ref, "--key", h.public))
	for _, tt := range []struct{ name, pin, key, want string }{
		{"wrong PIN", "27182818", softHSMKey, "wrong PIN"},
		{"short PIN", "27", softHSMKey, "wrong PIN"},
		{"no such key", softHSMPIN, strings.Replace(softHSMKey, "kubelet", "other", 1), "got 0 such keys"},
		{"no such token", softHSMPIN, strings.Replace(softHSMKey, "release", "other", 1), "could not find PKCS#11 token"},
		{"no library", softHSMPIN, softHSMKey + "x", softHSMModule + "x"},
	} {
		said := strings.TrimSpace(refused(t, h.command(t, tt.pin, "sign", ref, "--kms", tt.key)))
		if !strings.Contains(said, tt.want) || strings.Contains(said, "\n") {
			t.Errorf("%s: got %q, want one line with %q", tt.name, said, tt.want)
		}
		if strings.Contains(said, softHSMPIN) || strings.Contains(said, "27182818") {
			t.Errorf("%s: %q tells the PIN", tt.name, said)
		}
	}

	said := output(t, h.command(t, softHSMPIN, "sign", ref, "--kms", softHSMKey, "--debug", "--json"))
	file := filepath.Join(h.dir, "pin")
	if err := os.WriteFile(file, []byte(softHSMPIN+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	said += output(t, h.command(t, "", "sign", ref, "--kms", softHSMKey+"&pin-source=file:"+file)) // again: what is there stays
	if strings.Contains(said, softHSMPIN) {
		t.Errorf("%s tells the PIN", said)
	}
	output(t, h.command(t, "", "verify", ref, "--key", h.public))
	for _, recipe := range []peers.Recipe{peers.Cosign2(), peers.Cosign3()} {
		c := newCosign(t, recipe)
		for _, flag := range forms {
			output(t, c.verify(t, h.public, flag, ref))
		}
	}
}

// newSoftHSM makes a token with a key, and an image to sign.
func newSoftHSM(t *testing.T) *softHSM {
	t.Helper()
	root, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	h := &softHSM{dir: t.TempDir()}
	h.imgctl, h.public = filepath.Join(h.dir, "imgctl"), filepath.Join(h.dir, "token.pub")
	config := write(t, "softhsm2.conf", "directories.tokendir = "+h.dir+"\nlog.level = ERROR\n")
	h.env = append(os.Environ(), "SOFTHSM2_CONF="+config)

	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-tags", "pkcs11", "-o", h.imgctl, "./cmd/imgctl")
	build.Dir = root
	output(t, build)
	h.run(t, "softhsm2-util", "--init-token", "--free", "--label", "release", "--pin", softHSMPIN, "--so-pin", "0"+softHSMPIN)
	h.run(t, "pkcs11-tool", "--module", softHSMModule, "--token-label", "release", "--login", "--pin", softHSMPIN,
		"--keypairgen", "--key-type", "EC:prime256v1", "--label", "kubelet", "--id", "01")
	der := filepath.Join(h.dir, "token.der")
	h.run(t, "pkcs11-tool", "--module", softHSMModule, "--token-label", "release", "--read-object", "--type", "pubkey", "--id", "01", "--output-file", der)
	key, err := os.ReadFile(der)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: key})
	if err := os.WriteFile(h.public, text, 0o644); err != nil {
		t.Fatal(err)
	}
	writeTool(t, h.dir)
	output(t, h.command(t, "", "lock", "tool", "--offline"))
	output(t, h.command(t, "", "build", "tool", "-o", "layout", "--offline"))
	return h
}

func (h *softHSM) run(t *testing.T, program string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = h.env
	output(t, cmd)
}

// command prepares a run of the imgctl that can use the token, with a PIN in its
// environment or, for "", without.
func (h *softHSM) command(t *testing.T, pin string, args ...string) *exec.Cmd {
	cmd := shared.Command(t.Context(), args...)
	cmd.Path, cmd.Err, cmd.Dir = h.imgctl, nil, h.dir
	cmd.Env = append(cmd.Env, h.env[len(h.env)-1])
	if pin != "" {
		cmd.Env = append(cmd.Env, "IMGCTL_PKCS11_PIN="+pin)
	}
	return cmd
}
