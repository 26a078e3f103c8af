package build_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/sigstore/sigstore-go/pkg/root"

	"github.com/imgctl/imgctl/internal/deb"
	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/build"
	"github.com/imgctl/imgctl/pkg/upstream"
	"github.com/imgctl/imgctl/pkg/verify"
)

const version = "v1.36.2"

// spec is an image of what imgtest's small archive and release have.
const spec = `apiVersion: imgctl.dev/v1
kind: Image
platforms: [linux/arm64, linux/amd64]
upstream:
  versions: [v1.36.2]
  files:
  - {member: kubernetes/node/bin/kubelet, path: /usr/local/bin/kubelet}
  - {name: kubectl, path: /usr/local/bin/kubectl}
packages:
  suites: [trixie]
  keyring: archive.gpg
  install: [ca-certificates, iptables, tool-static]
  exclude: [/usr/share/doc/*]
  keep: [/usr/share/doc/*/copyright]
users:
- {name: _rpc, uid: 100, gid: 65534}
alternatives:
- name: iptables
  link: /usr/sbin/iptables
  path: /usr/sbin/iptables-nft
  priority: 20
environment: {PATH: "/usr/bin:/bin", LANG: C.UTF-8}
entrypoint: [/usr/local/bin/kubelet]
labels: {maintainer: nobody}
gates:
  setuid: [/usr/bin/tool-setuid]
  worldWritable: [/run/lock, /tmp, /var/tmp]
  unowned: [/etc/machine-id, /etc/mtab]
annotations: {org.opencontainers.image.title: kubelet}
compression: {packages: {algorithm: gzip}, programs: {algorithm: gzip}} # package validate knows no other
`

// world is a Debian archive and a Kubernetes release on loopback, and a spec that names both.
type world struct {
	dir    string // with the spec
	cache  string
	debian *imgtest.Debian
	kube   *imgtest.KubeServer
	trust  root.TrustedMaterial
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), cache: t.TempDir(), debian: imgtest.SmallDebian(t)}
	w.release(t, 200_000, version)
	w.write(t, build.SpecFile, spec)
	w.write(t, "archive.gpg", string(w.debian.Keyring))
	return w
}

// release publishes signed releases of Kubernetes.
func (w *world) release(t testing.TB, size int, versions ...string) {
	t.Helper()
	sigstore, err := imgtest.NewSigstore(nil)
	must(t, err)
	data, err := sigstore.TrustedRoot()
	must(t, err)
	w.trust, err = root.NewTrustedRootFromJSON(data)
	must(t, err)
	dir := t.TempDir()
	for _, version := range versions {
		binaries, err := imgtest.WritePrograms(t.TempDir(), version, size, "amd64", "arm64")
		must(t, err)
		for _, programs := range binaries {
			programs["kube-apiserver"] = programs["kubelet"]
		}
		must(t, imgtest.Kube{Version: version, Binaries: binaries, Signer: sigstore}.Write(dir))
	}
	w.kube, err = imgtest.ServeKube(dir, "", sigstore.Rekor())
	must(t, err)
	server := w.kube
	t.Cleanup(func() { server.Close() })
}

func (w *world) write(t testing.TB, name, content string) {
	t.Helper()
	must(t, os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o644))
}

// edit replaces text in the spec.
func (w *world) edit(t testing.TB, pairs ...string) {
	t.Helper()
	w.write(t, build.SpecFile, strings.NewReplacer(pairs...).Replace(spec))
}

func (w *world) upstream() *upstream.Client {
	return &upstream.Client{Download: w.download(), Bases: []string{w.kube.URL}, Rekor: w.kube.URL,
		Verifier: &verify.BlobVerifier{Trust: w.trust, Identity: upstream.Identity, Issuer: upstream.Issuer}}
}

func (w *world) download() *download.Client {
	return &download.Client{Cache: w.cache, Wait: func(context.Context, time.Duration) error { return nil }}
}

func (w *world) archive() *deb.Archive {
	return &deb.Archive{Download: w.download(), Base: w.debian.URL, Keyring: w.debian.Keyring}
}

func (w *world) spec(t testing.TB) *build.Spec {
	t.Helper()
	s, err := build.LoadSpec(w.dir)
	must(t, err)
	return s
}

// lock resolves the spec and writes the lock beside it.
func (w *world) lock(t testing.TB, old *build.Lock) *build.Lock {
	t.Helper()
	l, err := (&build.Locker{Upstream: w.upstream(), Debian: w.archives()}).Lock(t.Context(), w.spec(t), old)
	must(t, err)
	must(t, l.Save(w.dir))
	return l
}

func (w *world) archives() build.Archives { return build.Archives{"debian": w.archive()} }

func (w *world) engine() *build.Layers {
	return &build.Layers{Materials: &build.Materials{Upstream: w.upstream(), Debian: w.archives(), Cache: w.cache}}
}

// target returns the first image of the spec on disk, and the only one of most.
func (w *world) target(t testing.TB, l *build.Lock) build.Target {
	t.Helper()
	return w.spec(t).Targets(l)[0]
}

// build builds from the files on disk.
func (w *world) build(t testing.TB) (*build.Result, error) {
	t.Helper()
	l, err := build.LoadLock(w.dir)
	must(t, err)
	return build.Build(t.Context(), w.engine(), w.spec(t), l, w.target(t, l))
}

func (w *world) mustBuild(t testing.TB) *build.Result {
	t.Helper()
	r, err := w.build(t)
	must(t, err)
	return r
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func digest(t testing.TB, d interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := d.Digest()
	must(t, err)
	return h.String()
}

// layers returns the layers of one platform: packages, then Kubernetes.
func layers(t testing.TB, r *build.Result, platform string) []v1.Layer {
	t.Helper()
	l, err := r.Images[platform].Layers()
	must(t, err)
	return l
}

// content reads a whole layer, uncompressed.
func content(t testing.TB, l v1.Layer) []byte {
	t.Helper()
	r, err := l.Uncompressed()
	must(t, err)
	defer r.Close()
	var b bytes.Buffer
	_, err = io.Copy(&b, r)
	must(t, err)
	return b.Bytes()
}
