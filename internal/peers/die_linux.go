package peers

import (
	"os/exec"
	"syscall"
)

const terminate = syscall.SIGTERM

// dieWithParent keeps a child from outliving a parent that could not clean up,
// and out of the way of a Ctrl-C that the parent handles.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
}
