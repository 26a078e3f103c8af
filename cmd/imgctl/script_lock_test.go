package main

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imgctl/imgctl/internal/imgtest"
)

// mutable is a world of a script's own, which moves on as the real one does:
// Debian publishes security updates, Kubernetes releases.
type mutable struct {
	t        testing.TB
	debian   *imgtest.Debian
	security *imgtest.Debian
	snapshot *imgtest.DebianSnapshot
	sigstore *imgtest.Sigstore
	kube     string // the directory that is served
	server   *imgtest.KubeServer
}

// mutableKey is where a script's own world is kept.
type mutableKey struct{}

func mutableOf(ts *testscript.TestScript) *mutable {
	m, ok := ts.Value(mutableKey{}).(**mutable)
	if !ok || *m == nil {
		ts.Fatalf("there is no world of the script's own: world VERSION…")
	}
	return *m
}

// ownWorld returns the command "world VERSION…": a world of the script's own with
// these releases of Kubernetes. It sets $DEBIAN and $SECURITY to the archives, the
// variables that commands read to the rest, and writes keyring.gpg.
func ownWorld(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, _ bool, versions []string) {
		sigstore, err := imgtest.NewSigstore(nil)
		ts.Check(err)
		m := &mutable{t: t, debian: imgtest.SmallDebian(t), snapshot: imgtest.NewDebianSnapshot(t), sigstore: sigstore, kube: ts.MkAbs("kube")}
		m.security = m.debian.Security(t)
		*ts.Value(mutableKey{}).(**mutable) = m
		m.release(ts, versions)
		server, err := imgtest.ServeKube(m.kube, "", sigstore.Rekor())
		ts.Check(err)
		ts.Defer(func() { server.Close() })
		m.server = server
		trusted, err := sigstore.TrustedRoot()
		ts.Check(err)
		ts.Check(os.WriteFile(ts.MkAbs("trusted_root.json"), trusted, 0o644))
		ts.Check(os.WriteFile(ts.MkAbs("keyring.gpg"), m.debian.Keyring, 0o644))
		for name, value := range map[string]string{"DEBIAN": m.debian.URL, "SECURITY": m.security.URL, "IMGCTL_ARCHIVE": "",
			"IMGCTL_SNAPSHOT": m.snapshot.URL, "IMGCTL_UPSTREAM": server.URL, "IMGCTL_REKOR": server.URL} {
			ts.Setenv(name, value)
		}
	}
}

// release publishes releases of Kubernetes; channels name the last one of their line.
func (m *mutable) release(ts *testscript.TestScript, versions []string) {
	for _, version := range versions {
		programs, err := imgtest.WritePrograms(filepath.Join(ts.MkAbs("programs"), version), version, 16<<10, "amd64", "arm64")
		ts.Check(err)
		ts.Check(imgtest.Kube{Version: version, Binaries: programs, Signer: m.sigstore}.Write(m.kube))
	}
}

// releaseKubernetes is "released VERSION…": Kubernetes publishes these as well.
func releaseKubernetes(ts *testscript.TestScript, _ bool, versions []string) {
	mutableOf(ts).release(ts, versions)
}

// secureDebian is "secured PACKAGE VERSION REASON": Debian publishes a security
// update whose changelog gives the reason.
func secureDebian(ts *testscript.TestScript, _ bool, args []string) {
	m := mutableOf(ts)
	m.security.Packages = append(m.security.Packages, m.debian.Update(m.t, args[0], args[1], args[2])...)
	m.security.Date = m.security.Date.Add(time.Minute)
	m.security.Publish(m.t)
}

// retirePackage is "retired PACKAGE": no archive has the package's files any more,
// only snapshots.
func retirePackage(ts *testscript.TestScript, _ bool, args []string) {
	m := mutableOf(ts)
	for _, d := range []*imgtest.Debian{m.debian, m.security} {
		m.snapshot.Take(d, d.Date.Add(time.Hour))
		for _, path := range d.Paths(fmt.Sprintf("/%s_", args[0])) {
			d.Drop(m.t, path)
		}
	}
}

// spoilDebian is "debian FAULT": the archive has this fault alone, or none when it is "good".
func spoilDebian(ts *testscript.TestScript, _ bool, args []string) {
	m := mutableOf(ts)
	d := m.security
	released, until := m.debian.Date, m.debian.Date.AddDate(0, 0, 7)
	d.EditIndex, d.Date, d.ValidUntil, d.Packages = nil, released, until, nil
	switch args[0] {
	case "good", "otherkey":
	case "cut":
		d.Packages = m.debian.Update(m.t, "ca-certificates", "20260419", "New roots.")
	case "expired":
		d.Date, d.ValidUntil = released.AddDate(0, 0, -8), released.AddDate(0, 0, -1)
	case "older":
		d.Date = released.Add(-time.Hour)
	case "unsatisfiable":
		d.Packages = m.debian.Update(m.t, "libxtables12", "1.8.11-3", "Fix CVE-2026-1000.")
	case "hostile":
		d.Packages = m.debian.Update(m.t, "ca-certificates", "20260419", "New roots.")
		d.Packages[0].Files = append(d.Packages[0].Files, imgtest.DebFile{Path: "usr/../../etc/cron.d/x", Body: "x"})
	case "halfindex":
		d.Packages = m.debian.Update(m.t, "ca-certificates", "20260419", "New roots.")
		d.EditIndex = func(_, index string) string { return index[:len(index)-20] }
	default:
		ts.Fatalf("debian: unknown fault %s", args[0])
	}
	d.Publish(m.t)
	switch args[0] {
	case "otherkey":
		d.PublishSigned(m.t, imgtest.NewDebianKey(m.t, released.AddDate(-1, 0, 0), 0))
	case "cut":
		for _, path := range d.Paths("/binary-") {
			d.Edit(m.t, path, func(b []byte) []byte { return b[:len(b)/2] })
		}
	}
}

// spoilKubernetes is "kubernetes FAULT": the release of v1.36.2 has this fault
// alone, or none when it is "good".
func spoilKubernetes(ts *testscript.TestScript, _ bool, args []string) {
	m := mutableOf(ts)
	tarball := "v1.36.2/kubernetes-node-linux-amd64.tar.gz"
	for _, path := range []string{tarball, tarball + ".sig", "release/stable-1.36.txt"} {
		m.server.Script(path, nil)
	}
	switch args[0] {
	case "good":
	case "flipped":
		m.server.Flip(tarball, 1000)
	case "half":
		m.server.Missing(tarball)
	case "page":
		m.server.Replace(tarball, []byte("<!DOCTYPE html><html>sign in</html>"))
	case "unsigned":
		m.server.Missing(tarball + ".sig")
	case "forged":
		m.server.Script(tarball+".sig", func(w http.ResponseWriter, r *http.Request) {
			r.URL.Path = strings.Replace(r.URL.Path, "amd64", "arm64", 1) // a good signature, of another file
			m.server.Original(w, r)
		})
	case "back":
		m.server.Replace("release/stable-1.36.txt", []byte("v1.36.1"))
	default:
		ts.Fatalf("kubernetes: unknown fault %s", args[0])
	}
}
