package download_test

import (
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// U21, with a disk that is really full: a tmpfs that has room for four fifths of
// the file until somebody removes something, in a mount namespace that ends with the processes in it.
func TestADiskThatIsFullKeepsWhatItHasAndGoesOnLater(t *testing.T) {
	exe, err := os.Executable()
	must(t, err)
	o, cache := serve(t), t.TempDir()
	const size = 1 << 20
	script := fmt.Sprintf(`cd "$%s" && mount -t tmpfs -o size=%d none . && cd "$PWD" || exit 99
head -c %d /dev/zero >ballast                # what else the disk is full of
"$0" && exit 98                              # there was room for all
ls sha256 2>/dev/null | grep . && exit 97    # a file that is not whole
rm ballast && exec "$0"`, childCache, size, size-len(content)*8/10)
	cmd := exec.CommandContext(t.Context(), "sh", "-c", script, exe)
	cmd.Env = append(os.Environ(), childURL+"="+o.URL, childCache+"="+cache)
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if _, ran := err.(*exec.ExitError); err != nil && !ran {
		t.Skipf("no user and mount namespace here: %v", err)
	}
	if code := cmd.ProcessState.ExitCode(); code == 99 {
		t.Skipf("no tmpfs here: %s", out)
	} else if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	if got := string(out); !strings.Contains(got, "disk full") || !strings.Contains(got, "run it again") {
		t.Errorf("got %s", got)
	}
	if r := o.ranges(); len(r) != 2 || r[0] != "" || !strings.HasPrefix(r[1], "bytes=") || slices.Contains(r, "bytes=0-") {
		t.Errorf("got ranges %q, want the rest after what was kept", r)
	}
}
