package peers

import (
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestBuildkitdsOwnWordIsItsAddress(t *testing.T) {
	dir := t.TempDir()
	if len(dir) > maxSocket-5 {
		dir = "."
	}
	socket, log := filepath.Join(dir, "sock"), filepath.Join(t.TempDir(), "log")
	listening := func(network, addr string) net.Listener {
		l, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		return l
	}
	tcp := listening("tcp", "127.0.0.1:0").Addr().String()
	listening("unix", socket)
	for line, want := range map[string]string{
		`level=info msg="running server on ` + tcp + `"` + "\n":      "tcp://" + tcp,
		`level=info msg="running server on /mnt/sock"` + "\n":        "unix://" + socket, // where a daemon in a mount namespace sees it
		`level=info msg="running server on ` + tcp[:len(tcp)-1]:      "",                 // the number goes on
		`level=info msg="found 1 workers"` + "\n":                    "",
		`level=info msg="running server on 127.0.0.1:1"` + "\nend\n": "", // nobody is there
	} {
		if err := os.WriteFile(log, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := serverAddress(t.Context(), log, socket); (err == nil) != (want != "") || err == nil && got != want {
			t.Errorf("%q: got %q, %v; want %q", line, got, err, want)
		}
	}
}

func TestBuildkitdIsNotStartedWhereItCouldNotListen(t *testing.T) {
	for want, start := range map[string]func() error{
		"want at most 107": func() error {
			_, err := StartBuildkit(t.Context(), "false", "/"+strings.Repeat("x", 110), BuildkitOptions{})
			return err
		},
		"want no TLS": func() error {
			_, err := StartBuildkit(t.Context(), "false", "/tmp", BuildkitOptions{Rootless: true, TLS: &TLSFiles{}})
			return err
		},
	} {
		if err := start(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want: %s", err, want)
		}
	}
}

func TestBuildkitdWithCertificatesListensOnLoopbackAlone(t *testing.T) {
	with := daemon("/bin/buildkitd", "/d", &TLSFiles{CA: "ca", Cert: "cert", Key: "key"})
	for _, want := range [][]string{{"--addr", "tcp://127.0.0.1:0"}, {"--tlscacert", "ca"}, {"--tlscert", "cert"}, {"--tlskey", "key"}} {
		if i := slices.Index(with, want[0]); i < 0 || with[i+1] != want[1] {
			t.Errorf("got %q, want %q in it", with, want)
		}
	}
	if without := daemon("/bin/buildkitd", "/d", nil); slices.Contains(without, "--tlscert") || !slices.Contains(without, "unix:///d/sock") {
		t.Errorf("got %q, want a unix socket and no certificates", without)
	}
}
