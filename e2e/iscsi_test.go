//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// machine plays a machine that runs iscsid in a mount namespace of its own: there
// is a program iscsiadm that no container has. It ends with its standard input.
const machine = `set -e
mount -t tmpfs none /usr/local/sbin
cat >/usr/local/sbin/iscsiadm <<'END'
#!/bin/sh
readlink /proc/self/ns/mnt
printf '[%s]' "$@"
exit 21
END
cat >/usr/local/sbin/iscsid <<'END'
#!/bin/sh
echo ready
read -r end
END
chmod +x /usr/local/sbin/*
exec /usr/local/sbin/iscsid
`

func TestIscsiadmOfTheImageIsTheMachines(t *testing.T) {
	p := shared.Podman(t).of(t, "full")
	asKubelet := []string{"--privileged", "--pid", "host", "--network", "host"}
	call := []string{"iscsiadm", "-m", "node", "-T", "iqn.2026-01.example:a b", ""}

	// This machine has none, or does not let its process 1 be looked at.
	out := refused(t, p.run(t, asKubelet, call...))
	if !strings.Contains(out, "iscsiadm: No such file or directory") && !strings.Contains(out, "process 1 does not lead to the machine") {
		t.Errorf("a machine without iscsiadm: got %s, want it not to be found there", out)
	}

	namespace := startMachine(t)
	cmd := p.run(t, asKubelet, call...)
	got, _ := cmd.CombinedOutput()
	if want := namespace + "\n[-m][node][-T][iqn.2026-01.example:a b][]"; string(got) != want || cmd.ProcessState.ExitCode() != 21 {
		t.Errorf("got %q and %v, want %q and code 21", got, cmd.ProcessState, want)
	}
}

// startMachine returns the mount namespace of iscsid.
func startMachine(t *testing.T) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", machine)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("got %q, %v; want iscsid to be ready", line, err)
	}
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	return namespace
}
