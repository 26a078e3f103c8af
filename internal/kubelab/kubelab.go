// Package kubelab runs the machines of a cluster on this one.
//
// A [Lab] is a network of machines. Each [Machine] has mounts, processes, a
// network, a host name and an /etc of its own, on which the files of a bundle are
// installed as they are, and runs Debian's containerd and the real kubelet of
// Kubernetes. It is Linux's namespaces that keep them apart: when the lab is
// closed, or the process that opened it dies, the kernel ends every process and
// drops every mount and address. What is left are directories, which [Lab.Close]
// removes.
//
// It needs root on Debian with containerd, runc, iproute2 and
// containernetworking-plugins. Nothing in a lab reaches anything outside of it.
package kubelab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// Lab is a network of machines. Make one with [Open]; its methods are for one
// goroutine.
type Lab struct {
	dir      string
	bin      string // one link to the program for each name that it answers to
	image    string // archive of the image of all components, once [Lab.Image] made it
	names    []string
	machines []*Machine
}

// Programs are the names that the program kube of package peers answers to.
func Programs() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubeadm", "kubectl", "kubelet", pauseProgram}
}

// pauseProgram is the first process of a pod, and of a machine here.
const pauseProgram = "pause"

// APIServer is the name by which all machines know the first one.
const APIServer = "api.cluster.test"

// Open makes a lab for machines of these names, with all its files in dir. kube
// is the program that is all of Kubernetes.
func Open(dir, kube string, names ...string) (*Lab, error) {
	if os.Getuid() != 0 {
		return nil, errors.New("open lab: it takes root to make machines")
	}
	l := &Lab{dir: dir, bin: filepath.Join(dir, "bin"), names: names}
	if err := os.MkdirAll(l.bin, 0o755); err != nil {
		return nil, err
	}
	for _, name := range Programs() {
		if err := os.Symlink(kube, filepath.Join(l.bin, name)); err != nil {
			return nil, err
		}
	}
	return l, nil
}

// Close ends all machines and removes what they leave outside their directory.
func (l *Lab) Close() error {
	var errs []error
	for _, m := range l.machines {
		errs = append(errs, m.close())
	}
	l.machines = nil
	return errors.Join(errs...)
}

// address is that of the machine with this index.
func address(i int) string { return fmt.Sprintf("10.77.0.%d", i+1) }

// hosts is the /etc/hosts of every machine.
func (l *Lab) hosts() []byte {
	var b strings.Builder
	b.WriteString("127.0.0.1 localhost\n")
	for i, name := range l.names {
		fmt.Fprintf(&b, "%s %s", address(i), name)
		if i == 0 {
			b.WriteString(" " + APIServer)
		}
		b.WriteByte('\n')
	}
	return []byte(b.String())
}

// waitLimit is how long anything may take on a machine that is busy with other things.
const waitLimit = 3 * time.Minute

// Wait asks again and again until the answer is nil. The error is the last
// answer, after some minutes or when ctx ends, or why there is no hope.
func Wait(ctx context.Context, hope func() error, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, waitLimit)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		if end := hope(); end != nil {
			return fmt.Errorf("%w (%w)", err, end)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (%w)", err, ctx.Err())
		case <-tick.C:
		}
	}
}
