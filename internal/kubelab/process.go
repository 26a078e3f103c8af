package kubelab

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Process is a running program.
type Process struct {
	PID  int // as this process knows it
	Args []string
}

// Process returns the one process on the machine's own network that was started
// by this name, in a container or not.
func (m *Machine) Process(name string) (*Process, error) {
	network, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", m.first.PID()))
	if err != nil {
		return nil, fmt.Errorf("find %s of %s: %w", name, m.Name, err)
	}
	lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return nil, err
	}
	var found []*Process
	for _, line := range lines {
		dir := filepath.Dir(line)
		text, err := os.ReadFile(line)
		if err != nil || !bytes.HasPrefix(text, []byte(name+"\x00")) {
			continue // or it has ended
		}
		if of, err := os.Readlink(filepath.Join(dir, "ns/net")); err != nil || of != network {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			return nil, err
		}
		found = append(found, &Process{PID: pid, Args: strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")})
	}
	if len(found) != 1 {
		return nil, fmt.Errorf("find %s of %s: got %d processes, want one", name, m.Name, len(found))
	}
	return found[0], nil
}
