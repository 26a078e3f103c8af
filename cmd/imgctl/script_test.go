package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imgctl/imgctl/internal/imgtest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"imgctl": main})
}

// kubeVersion is the newest version that the scripts' upstream publishes, and
// kubeVersions are all of them, the newest last.
const kubeVersion = "v1.36.2"

var kubeVersions = []string{"v1.34.9", "v1.35.6", kubeVersion}

// world is what all scripts share and none of them changes: a Debian archive
// and Kubernetes' release files, each signed by its own throw-away authority.
type world struct {
	debian  *imgtest.Debian
	kube    *imgtest.KubeServer
	trusted []byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	sigstore, err := imgtest.NewSigstore(nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, version := range kubeVersions {
		binaries, err := imgtest.WritePrograms(filepath.Join(dir, version), version, 64<<10, "amd64", "arm64")
		if err != nil {
			t.Fatal(err)
		}
		if err := (imgtest.Kube{Version: version, Binaries: binaries, Signer: sigstore}).Write(filepath.Join(dir, "kube")); err != nil {
			t.Fatal(err)
		}
	}
	w := &world{debian: imgtest.SmallDebian(t)}
	if w.kube, err = imgtest.ServeKube(filepath.Join(dir, "kube"), "", sigstore.Rekor()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.kube.Close() })
	if w.trusted, err = sigstore.TrustedRoot(); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestScripts runs the manual: each script is a session at a shell.
func TestScripts(t *testing.T) {
	w := newWorld(t)
	testscript.Run(t, testscript.Params{
		Dir:   "testdata/script",
		Setup: w.setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"registry":   startRegistry,
			"outage":     stopRegistry,
			"writes":     countWrites,
			"requests":   countRequests,
			"silent":     wantSilence,
			"project":    writeProject,
			"fails":      failsWith,
			"steal":      moveTag,
			"digest":     setDigest,
			"stall":      stallAt,
			"reached":    awaitStall,
			"heal":       healRegistry,
			"dead":       deadRegistry,
			"edit":       editFile,
			"world":      ownWorld(t),
			"debian":     spoilDebian,
			"kubernetes": spoilKubernetes,
			"released":   releaseKubernetes,
			"secured":    secureDebian,
			"retired":    retirePackage,
			"sigstore":   startSigstore(t),
			"endpoint":   takeAddress,
			"apiserver":  startAPIServer,
			"agekey":     makeAgeKey,
			"pin":        setPin,
			"runbook":    runRunbook(t),
			"nosecrets":  findNoSecrets(t),
		},
		RequireExplicitExec: true,
	})
}

// failsWith is "fails CODE imgctl …": the command ends with that exit code, one
// line on stderr that starts with "imgctl: ", and at most one hint.
func failsWith(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		ts.Fatalf("%v ended with %v, want exit code %s", args[1:], err, args[0])
	}
	if got := strconv.Itoa(exit.ExitCode()); got != args[0] {
		ts.Fatalf("%v ended with exit code %s, want %s: %s", args[1:], got, args[0], ts.ReadFile("stderr"))
	}
	causes, hints := 0, 0
	for line := range strings.Lines(ts.ReadFile("stderr")) {
		switch {
		case strings.HasPrefix(line, "imgctl: "):
			causes++
		case strings.HasPrefix(line, "hint: "):
			hints++
		}
	}
	if verdict := args[2] == "verify" || args[2] == "status"; causes+hints == 0 && !verdict || causes > 1 || hints > 1 {
		ts.Fatalf("%d causes and %d hints on stderr, want one line of each kind at most", causes, hints)
	}
}

// registriesKey is where a script's registries are kept.
type registriesKey struct{}

func (w *world) setup(env *testscript.Env) error {
	env.Setenv("IMGCTL_CACHE", filepath.Join(env.WorkDir, "cache"))
	env.Setenv("IMGCTL_ARCHIVE", w.debian.URL)
	env.Setenv("IMGCTL_SNAPSHOT", "http://127.0.0.1:1") // never the real one
	env.Setenv("IMGCTL_UPSTREAM", w.kube.URL)
	env.Setenv("IMGCTL_REKOR", w.kube.URL)
	env.Setenv("IMGCTL_TRUSTED_ROOT", filepath.Join(env.WorkDir, "trusted_root.json"))
	env.Setenv("IMGCTL_KEY_PASSWORD", "correct horse")
	env.Setenv("HOME", env.WorkDir)
	env.Values[registriesKey{}] = map[string]*imgtest.Registry{}
	env.Values[stallsKey{}] = map[string]*stall{}
	env.Values[mutableKey{}] = new(*mutable)
	env.Values[listenersKey{}] = map[string]net.Listener{}
	for name, data := range map[string][]byte{"trusted_root.json": w.trusted, "keyring.gpg": w.debian.Keyring} {
		if err := os.WriteFile(filepath.Join(env.WorkDir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// startRegistry is "registry NAME": it starts a registry of its own and sets $NAME to its address.
func startRegistry(ts *testscript.TestScript, _ bool, args []string) {
	r, err := imgtest.NewRegistry(imgtest.RegistryOptions{NoReferrers: len(args) > 1 && args[1] == "noreferrers"})
	ts.Check(err)
	ts.Defer(func() { r.Close() })
	ts.Value(registriesKey{}).(map[string]*imgtest.Registry)[args[0]] = r
	ts.Setenv(args[0], r.Host())
}

// stopRegistry is "outage NAME": the registry refuses connections from now on.
func stopRegistry(ts *testscript.TestScript, _ bool, args []string) {
	ts.Check(registryOf(ts, args[0]).Close())
}

// stalls are the stalled requests of a script's registries, by name.
type stallsKey struct{}

type stall struct{ reached, release chan struct{} }

// stallAt is "stall NAME METHOD N": the registry does not answer the Nth such request, or any after it.
func stallAt(ts *testscript.TestScript, _ bool, args []string) {
	n, err := strconv.Atoi(args[2])
	ts.Check(err)
	st := &stall{reached: make(chan struct{}), release: make(chan struct{})}
	ts.Value(stallsKey{}).(map[string]*stall)[args[0]] = st
	ts.Defer(func() { st.end() })
	registryOf(ts, args[0]).On(imgtest.Fault{Method: args[1], Skip: n - 1, Wait: st.release, Do: sync.OnceFunc(func() { close(st.reached) })})
}

func (s *stall) end() {
	select {
	case <-s.release:
	default:
		close(s.release)
	}
}

// awaitStall is "reached NAME": it returns once the stalled request is there.
func awaitStall(ts *testscript.TestScript, _ bool, args []string) {
	<-ts.Value(stallsKey{}).(map[string]*stall)[args[0]].reached
}

// healRegistry is "heal NAME": the registry is as it was.
func healRegistry(ts *testscript.TestScript, _ bool, args []string) {
	if st := ts.Value(stallsKey{}).(map[string]*stall)[args[0]]; st != nil {
		st.end()
	}
	registryOf(ts, args[0]).Heal()
}

// deadRegistry is "dead NAME STATUS": every request is answered with the status.
func deadRegistry(ts *testscript.TestScript, _ bool, args []string) {
	status, err := strconv.Atoi(args[1])
	ts.Check(err)
	registryOf(ts, args[0]).On(imgtest.Fault{Status: status, Body: "<html>no</html>"})
}

func registryOf(ts *testscript.TestScript, name string) *imgtest.Registry {
	return ts.Value(registriesKey{}).(map[string]*imgtest.Registry)[name]
}

// editFile is "edit FILE OLD NEW": it replaces text in a file.
func editFile(ts *testscript.TestScript, _ bool, args []string) {
	before := ts.ReadFile(args[0])
	after := strings.ReplaceAll(before, args[1], strings.ReplaceAll(args[2], `\n`, "\n"))
	if before == after {
		ts.Fatalf("%s holds no %q", args[0], args[1])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(after), 0o644))
}

// moveTag is "steal NAME REPO TAG FILE": the tag is moved to the digest in FILE
// as somebody with the registry's credentials can.
func moveTag(ts *testscript.TestScript, _ bool, args []string) {
	_, digest, _ := strings.Cut(strings.TrimSpace(ts.ReadFile(args[3])), "@")
	base := "http://" + ts.Getenv(args[0]) + "/v2/" + args[1] + "/manifests/"
	req, err := http.NewRequest(http.MethodGet, base+digest, nil)
	ts.Check(err)
	req.Header.Set("Accept", "application/vnd.oci.image.index.v1+json")
	resp, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer resp.Body.Close()
	put, err := http.NewRequest(http.MethodPut, base+args[2], resp.Body)
	ts.Check(err)
	put.Header.Set("Content-Type", resp.Header.Get("Content-Type"))
	done, err := http.DefaultClient.Do(put)
	ts.Check(err)
	defer done.Body.Close()
	if done.StatusCode != http.StatusCreated {
		ts.Fatalf("move %s: %s", args[2], done.Status)
	}
}

// setDigest is "digest NAME FILE": $NAME is the digest of the reference in FILE.
func setDigest(ts *testscript.TestScript, _ bool, args []string) {
	_, digest, _ := strings.Cut(strings.TrimSpace(ts.ReadFile(args[1])), "@")
	ts.Setenv(args[0], digest)
}

// countWrites is "writes NAME N": the registry has seen N writing requests ("any" number) since the last such line.
func countWrites(ts *testscript.TestScript, _ bool, args []string) {
	r := registryOf(ts, args[0])
	got := r.Writes()
	r.Forget()
	if args[1] != "any" && fmt.Sprint(len(got)) != args[1] {
		ts.Fatalf("%d writing requests, want %s: %v", len(got), args[1], got)
	}
}

// countRequests is "requests NAME REPOSITORY N": since the last such line the registry has seen N requests at
// most about the repository, all of them questions.
func countRequests(ts *testscript.TestScript, _ bool, args []string) {
	r := registryOf(ts, args[0])
	most, err := strconv.Atoi(args[2])
	ts.Check(err)
	about := slices.DeleteFunc(r.Requests(), func(q imgtest.Request) bool { return !strings.HasPrefix(q.Path, "/v2/"+args[1]+"/") })
	if len(about) > most || len(about) == 0 || len(r.Writes()) > 0 {
		ts.Fatalf("%d requests about %s, want 1 to %d that only ask: %v", len(about), args[1], most, about)
	}
}

// wantSilence is "silent NAME": the registry has seen no request at all since its log was forgotten.
func wantSilence(ts *testscript.TestScript, _ bool, args []string) {
	if got := registryOf(ts, args[0]).Requests(); len(got) > 0 {
		ts.Fatalf("%d requests, want none: %v", len(got), got)
	}
}

// writeProject is "project ADDR…": it writes image, bundle, policy and release
// files of a small project that is released to the registries at ADDR.
func writeProject(ts *testscript.TestScript, _ bool, args []string) {
	var repositories, bundles, destinations []string
	for _, addr := range args {
		repositories = append(repositories, addr+"/kubelet")
		bundles = append(bundles, addr+"/kubelet-bundle")
		destinations = append(destinations, "- repository: "+addr+"/kubelet\n")
	}
	fill := strings.NewReplacer("REPOSITORIES", strings.Join(repositories, ", "), "BUNDLES", strings.Join(bundles, ", "),
		"DESTINATIONS\n", strings.Join(destinations, ""), "VERSION", kubeVersion, "INSTALL", strings.Join(imgtest.SmallInstall(), ", "),
		"IMAGE", repositories[0])
	keyring := ts.ReadFile("keyring.gpg")
	for name, text := range projectFiles {
		path := ts.MkAbs(name)
		ts.Check(os.MkdirAll(filepath.Dir(path), 0o755))
		ts.Check(os.WriteFile(path, []byte(fill.Replace(text)), 0o644))
	}
	ts.Check(os.WriteFile(ts.MkAbs("kubelet/keyring.gpg"), []byte(keyring), 0o644))
}

var projectFiles = map[string]string{
	"kubelet/image.yaml": `apiVersion: imgctl.dev/v1
kind: Image
platforms: [linux/amd64, linux/arm64]
upstream:
  versions: [VERSION]
  require: [pin, signature]
  files:
  - {member: kubernetes/node/bin/kubelet, path: /usr/local/bin/kubelet}
  - {member: kubernetes/node/bin/kubectl, path: /usr/local/bin/kubectl}
packages:
  suites: [trixie]
  keyring: keyring.gpg
  install: [INSTALL]
entrypoint: [/usr/local/bin/kubelet]
gates:
  setuid: [/usr/bin/tool-setuid]
  worldWritable: [/run/lock, /tmp, /var/tmp]
  unowned: [/etc/machine-id, /etc/mtab]
compression: {packages: {algorithm: gzip}}
`,
	"typhoon/bundle.yaml": `apiVersion: imgctl.dev/v1
kind: Bundle
name: typhoon
kubernetes: VERSION
os: {family: fcos}
cluster:
  dnsServiceIPs: [10.3.0.10]
  domain: cluster.local
kubelet:
  nodeLabels: {node.kubernetes.io/node: ""}
images:
  kubelet: IMAGE
`,
	"policy.yaml": `apiVersion: imgctl.dev/v1
kind: Policy
rules:
- repositories: [REPOSITORIES]
  sources: [REPOSITORIES]
  signers: {any: [{key: {file: release.pub}}]}
  attestations:
  - {type: https://slsa.dev/provenance/v1, builder: https://github.com/imgctl/imgctl}
  - {type: https://spdx.dev/Document}
- repositories: [BUNDLES]
  sources: [BUNDLES]
  signers: {any: [{key: {file: release.pub}}]}
`,
	"release.yaml": `apiVersion: imgctl.dev/v1
kind: Release
image: kubelet
bundles: [typhoon]
destinations:
DESTINATIONS
tags: ["{version}", "{version}-{arch}"]
signers:
- key: {file: release.key, password: {env: IMGCTL_KEY_PASSWORD}}
policy: policy.yaml
`,
}
