package peers

import (
	"os/exec"
	"syscall"
)

const terminate = syscall.SIGTERM

// dieWithParent keeps a child from outliving a parent that could not clean up,
// and out of the way of a Ctrl-C that the parent handles.
func dieWithParent(cmd *exec.Cmd) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig, cmd.SysProcAttr.Setpgid = syscall.SIGKILL, true
}

// ownNamespaces gives a child process and mount namespaces of its own, and a
// network namespace without a network when there is to be none.
func ownNamespaces(cmd *exec.Cmd, offline bool) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS}
	if offline {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
}
