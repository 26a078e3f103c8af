//go:build !linux

package peers

import (
	"os/exec"
	"syscall"
)

const terminate = syscall.SIGTERM

// dieWithParent keeps a child out of the way of a Ctrl-C that the parent
// handles. Only Linux can also tie its life to the parent's.
func dieWithParent(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} }

// ownNamespaces does nothing: what needs them runs on Linux alone.
func ownNamespaces(*exec.Cmd, bool) {}
