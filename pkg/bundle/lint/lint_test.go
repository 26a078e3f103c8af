package lint

import (
	"fmt"
	"maps"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/pkg/bundle"
	"github.com/imgctl/imgctl/pkg/bundle/flags"
)

const (
	version = "v1.36.2"
	kubelet = "/etc/systemd/system/kubelet.service"
	etcd    = "/etc/systemd/system/etcd-member.service"
	plane   = "/etc/kubernetes/manifests/plane.yaml"
)

// typhoon renders the repository's own bundle.
func typhoon(t testing.TB) map[string][]byte {
	t.Helper()
	c, err := bundle.Load("../../../bundles/typhoon")
	if err != nil {
		t.Fatal(err)
	}
	pin := func(ref string) (string, error) {
		ref, _, _ = strings.Cut(ref, "@")
		return ref + "@sha256:" + strings.Repeat("a", 64), nil
	}
	return rendered(t, c, pin)
}

// files renders a bundle whose kubelet alone is not pinned.
func files(t testing.TB, c *bundle.Config) map[string][]byte {
	t.Helper()
	return rendered(t, c, c.Pin("quay.io/poseidon/kubelet@sha256:"+strings.Repeat("a", 64), nil))
}

func rendered(t testing.TB, c *bundle.Config, pin func(string) (string, error)) map[string][]byte {
	t.Helper()
	tree, err := bundle.Render(c, pin)
	if err != nil {
		t.Fatal(err)
	}
	files := make(map[string][]byte)
	for _, f := range tree.Files {
		files[f.Path] = f.Body
	}
	return files
}

func TestOurOwnBundleHasNoErrors(t *testing.T) {
	files := typhoon(t)
	for _, f := range Lint(files, version) {
		t.Errorf("%+v", f)
	}
	unit := string(files[kubelet])
	files[kubelet] = []byte(strings.Replace(unit, "--kubeconfig=", "--kubeconfg=", 1))
	if string(files[kubelet]) == unit {
		t.Fatal("nothing was changed")
	}
	found := Lint(files, version)
	if len(found) != 1 || found[0].File != kubelet || found[0].Severity != flags.Error || !Failed(found) {
		t.Fatalf("got %+v, want one error", found)
	}
	line := strings.Split(string(files[kubelet]), "\n")[found[0].Line-1]
	if !strings.Contains(line, "--kubeconfg=") || found[0].Hint != "did you mean --kubeconfig?" {
		t.Errorf("got %+v, which is %q", found[0], line)
	}
}

// tree has two units and a manifest without a fault.
func tree() map[string]string {
	return map[string]string{
		kubelet: `[Unit]
Description=kubelet
StartLimitIntervalSec=0
[Service]
ExecStart=/usr/bin/podman run --name=kubelet --privileged -v /etc/kubernetes:/etc/kubernetes:ro,z \
  --volume /var/lib/kubelet:/var/lib/kubelet:rshared,z ${KUBELET_IMAGE} \
  --config=/etc/kubernetes/kubelet.yaml \
  --v 2
Restart=always
[Install]
WantedBy=multi-user.target
`,
		etcd: `[Service]
ExecStart=/usr/bin/podman run --name etcd -v /var/lib/etcd:/var/lib/etcd:rw,Z quay.io/coreos/etcd:v3.6.8
`,
		plane: `apiVersion: v1
kind: Pod
metadata: {name: kube-apiserver}
spec:
  containers:
  - name: kube-apiserver
    image: registry.k8s.io/kube-apiserver:v1.36.2
    command:
    - kube-apiserver
    - --secure-port=6443
    volumeMounts: [{name: pki, mountPath: /pki, readOnly: true}]
  volumes: [{name: pki, hostPath: {path: /etc/kubernetes/pki}}]
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: cni}
spec:
  template:
    spec:
      initContainers:
      - name: install
        image: example.org/cni:v1
        securityContext: {seLinuxOptions: {level: s0}}
        volumeMounts: [{name: net, mountPath: /host}]
      containers:
      - name: agent
        image: example.org/cni:v1
      volumes: [{name: net, hostPath: {path: /etc/cni/net.d}}]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: job}
spec:
  jobTemplate: {spec: {template: {spec: {containers: [{name: kube-scheduler, image: "x/kube-scheduler:v1.35.9", args: [--v=2]}]}}}}
`,
	}
}

func lintTree(t *testing.T, files map[string]string) []Finding {
	t.Helper()
	bodies := make(map[string][]byte)
	for name, body := range files {
		bodies[name] = []byte(body)
	}
	return Lint(bodies, version)
}

// Each row changes one thing in a tree in which nothing is found.
func TestLintFindsWhatANodeWouldNotForgive(t *testing.T) {
	if found := lintTree(t, tree()); len(found) > 0 {
		t.Fatalf("the sibling of every row: got %+v", found)
	}
	for name, tt := range map[string]struct {
		file, old, new string
		line           int
		severity       flags.Severity
		want           string
	}{
		"unknown kubelet flag":        {kubelet, "--config=", "--confik=", 7, flags.Error, "--confik: kubelet v1.36 has no such flag"},
		"deprecated kubelet flag":     {kubelet, "--v 2", "--cluster-dns=10.3.0.10", 8, flags.Warning, "--cluster-dns: deprecated"},
		"underscores":                 {kubelet, "--v 2", "--cluster_dns=10.3.0.10", 8, flags.Warning, "--cluster_dns: a flag is spelt with dashes"},
		"unknown apiserver flag":      {plane, "--secure-port", "--insecure-port", 10, flags.Error, "--insecure-port: kube-apiserver v1.36 has no such flag"},
		"bad value":                   {plane, "6443", "https", 10, flags.Error, "want a whole number"},
		"flag within a CronJob":       {plane, "--v=2", "--vv=2", 34, flags.Error, "kube-scheduler v1.36 has no such flag"},
		"K14 older scheduler":         {plane, "v1.35.9", "v1.34.9", 34, flags.Error, "kube-scheduler v1.34.9: 2 minors older than kube-apiserver v1.36.2"},
		"K14 newer kubelet":           {plane, "kube-apiserver:v1.36.2", "kube-apiserver:v1.35.2", 5, flags.Error, "kubelet v1.36.2: 1 minor newer than kube-apiserver v1.35.2"},
		"unknown section":             {kubelet, "[Install]", "[Instal]", 10, flags.Error, "[Instal]: a service has no such section"},
		"no section":                  {kubelet, "[Unit]\n", "", 1, flags.Error, "Description= is before any section"},
		"given twice":                 {kubelet, "Restart=always", "Restart=always\nRestart=no", 10, flags.Error, "Restart= is given in line 9 already"},
		"two commands":                {etcd, "[Service]", "[Service]\nExecStart=/bin/true", 3, flags.Error, "ExecStart= is given in line 2 already"},
		"not absolute":                {etcd, "/usr/bin/podman", "podman", 2, flags.Error, `"podman" is not absolute`},
		"a variable as program":       {etcd, "/usr/bin/podman", "${PODMAN}", 2, flags.Error, "a variable cannot be the program"},
		"start limit in [Service]":    {kubelet, "Restart=always", "StartLimitBurst=3", 9, flags.Error, "StartLimitBurst= is in [Service]"},
		"open quote":                  {etcd, "--name etcd", `--name "etcd`, 2, flags.Error, "is not closed"},
		"no image":                    {etcd, "quay.io/coreos/etcd:v3.6.8", "", 2, flags.Error, "names no image"},
		"private label of a pod":      {kubelet, "ro,z", "ro,Z", 5, flags.Error, "/etc/kubernetes gets a private label (:Z), and " + plane},
		"private label of a parent":   {etcd, "/var/lib/etcd:/", "/var/lib/kubelet/etcd:/", 2, flags.Error, "/var/lib/kubelet/etcd gets a private label"},
		"label of a file system":      {etcd, "/var/lib/etcd:/var/lib/etcd:rw,Z", "/:/host:z", 2, flags.Error, "/ gets a shared label"},
		"label of /etc":               {etcd, "/var/lib/etcd:/var/lib/etcd:rw,Z", "/etc:/etc:ro,z", 2, flags.Error, "/etc gets a shared label"},
		"label within /usr":           {etcd, "/var/lib/etcd:/var/lib/etcd:rw,Z", "/usr/share/x:/x:Z", 2, flags.Error, "/usr/share/x gets a private label"},
		"label of containers":         {etcd, "-v /var/lib/etcd:/var/lib/etcd:rw,Z", "--mount type=bind,src=/var/lib/containers,dst=/c,z", 2, flags.Error, "/var/lib/containers gets a shared label"},
		"CNI writer with categories":  {plane, "{level: s0}", "{level: 's0:c1,c2'}", 21, flags.Error, `install writes /etc/cni/net.d at the SELinux level "s0:c1,c2", want s0`},
		"CNI writer without a level":  {plane, "{seLinuxOptions: {level: s0}}", "{}", 21, flags.Error, `at the SELinux level "", want s0`},
		"a manifest that is none":     {plane, "apiVersion: batch/v1\nkind: CronJob", "apiVersion: batch/v1\nkind: [", 29, flags.Error, "read the document"},
		"two apiservers for one flag": {plane, "- --secure-port=6443", "- --secure-port=6443\n    - --secure-port=443", 11, flags.Error, "--secure-port: given twice"},
	} {
		t.Run(name, func(t *testing.T) {
			files := tree()
			changed := strings.Replace(files[tt.file], tt.old, tt.new, 1)
			if changed == files[tt.file] {
				t.Fatalf("%q is not in %s", tt.old, tt.file)
			}
			files[tt.file] = changed
			found := lintTree(t, files)
			for _, f := range found {
				if f.File == tt.file || strings.HasPrefix(name, "K14 newer") {
					if f.Line == tt.line && f.Severity == tt.severity && strings.Contains(f.Message, tt.want) {
						return
					}
				}
			}
			t.Errorf("got %+v\nwant line %d, %s: %s", found, tt.line, tt.severity, tt.want)
		})
	}
}

func TestLabelsThatHarmNobodyPass(t *testing.T) {
	for name, volume := range map[string]string{
		"private, of its own":       "/var/lib/etcd:/var/lib/etcd:Z",
		"shared, with others":       "/etc/kubernetes/pki:/pki:ro,z",
		"no label on the host's":    "/:/host:ro",
		"a volume of the engine":    "data:/data:Z",
		"/var/run/lock":             "/var/run/lock:/var/run/lock:z",
		"a neighbour by its prefix": "/etc/kubernetes-x:/x:Z",
	} {
		files := tree()
		files[etcd] = strings.Replace(files[etcd], "/var/lib/etcd:/var/lib/etcd:rw,Z", volume, 1)
		if found := lintTree(t, files); len(found) > 0 {
			t.Errorf("%s: got %+v", name, found)
		}
	}
}

func TestRunLinesAreRead(t *testing.T) {
	unit := "[Service]\nExecStart=/usr/bin/docker --log-level warn run -d -it --rm -e A=b -v/a:/b:ro,Z --mount=type=bind,source=/c,target=/d,readonly,relabel=shared,bind-propagation=rslave --network host --entrypoint /usr/bin/kubelet registry/x@sha256:00 --config \"/a b\" $$x\n"
	l := &linter{version: version}
	l.read(map[string][]byte{"/x.service": []byte(unit)})
	want := []container{{
		file: "/x.service", line: 2, image: "registry/x@sha256:00", program: "kubelet",
		args: []string{"--config", "/a b", "$x"}, lines: []int{2, 2, 2},
		mounts: []Mount{
			{Source: "/a", Target: "/b", ReadOnly: true, Label: "private"},
			{Source: "/c", Target: "/d", ReadOnly: true, Label: "shared", Propagation: "rslave"},
		},
		rights: []string{"network host"},
	}}
	if !reflect.DeepEqual(l.containers, want) {
		t.Errorf("got  %+v\nwant %+v", l.containers, want)
	}
}

func TestQuadletsAreLintedLikeUnits(t *testing.T) {
	quadlet := "[Container]\nImage=${KUBELET_IMAGE}\nContainerName=kubelet\nVolume=/var/lib/kubelet:/var/lib/kubelet:rshared,z\nPodmanArgs=--privileged\nExec=--config=/x\n[Service]\nRestart=always\n"
	const name = "/etc/containers/systemd/kubelet.container"
	if found := lintTree(t, map[string]string{name: quadlet}); len(found) > 0 {
		t.Errorf("got %+v", found)
	}
	bad := strings.Replace(strings.Replace(quadlet, "--config", "--cfg", 1), "/var/lib/kubelet:/", "/etc:/", 1)
	if found := lintTree(t, map[string]string{name: bad}); len(found) != 2 {
		t.Errorf("got %+v, want an unknown flag and a label on /etc", found)
	}
}

// Whatever starts it, the kubelet is the same container.
func TestAQuadletStartsTheContainerOfTheUnit(t *testing.T) {
	of := func(quadlet bool) map[string][]Privilege {
		c, err := bundle.Load("../testdata/controller")
		if err != nil {
			t.Fatal(err)
		}
		c.ControlPlane.Members, c.Cluster.EtcdServers = nil, []string{"etcd.example.com"}
		c.Options = bundle.Options{EtcdMember: true, Quadlet: quadlet}
		files := files(t, c)
		for _, f := range Lint(files, version) {
			t.Errorf("quadlet %t: %+v", quadlet, f)
		}
		found := make(map[string][]Privilege)
		for _, p := range Privileges(files) {
			file, name, _ := strings.Cut(p.Of, " ")
			p.Of = ""
			if strings.HasSuffix(file, ".container") == quadlet && (name == "kubelet" || name == "etcd") {
				found[name] = append(found[name], p)
			}
		}
		return found
	}
	units, quadlets := of(false), of(true)
	if diff := cmp.Diff(units, quadlets); diff != "" || len(units["kubelet"]) < 20 || len(units["etcd"]) < 3 {
		t.Errorf("%d and %d privileges, -units +quadlets:\n%s", len(units["kubelet"]), len(units["etcd"]), diff)
	}
}

func TestPlanNamesWhoLabelsWhatAndWhoElseUsesIt(t *testing.T) {
	files := make(map[string][]byte)
	for name, body := range tree() {
		files[name] = []byte(body)
	}
	want := []Label{
		{Path: "/etc/kubernetes", Label: "shared", By: kubelet + " kubelet", Users: []string{plane + " kube-apiserver/kube-apiserver"}},
		{Path: "/var/lib/etcd", Label: "private", By: etcd + " etcd"},
		{Path: "/var/lib/kubelet", Label: "shared", By: kubelet + " kubelet"},
	}
	if got := Plan(files); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDropInsAreLintedAsTheUnitThatTheyAreFor(t *testing.T) {
	const name = kubelet + ".d/10.conf"
	if found := lintTree(t, map[string]string{name: "[Service]\nEnvironment=\"A=b c\"\n"}); len(found) > 0 {
		t.Errorf("got %+v", found)
	}
	if found := lintTree(t, map[string]string{name: "[Timer]\nOnBootSec=1\n"}); len(found) != 1 {
		t.Errorf("got %+v, want one finding", found)
	}
	if found := lintTree(t, map[string]string{"/etc/sysctl.d/x.conf": "a = b\n"}); len(found) > 0 {
		t.Errorf("got %+v for what is no unit", found)
	}
}

// Typhoon's documented way to another registry, which does nothing to a unit that
// has its images from a file.
func TestAVariableThatAFileSetsIsNotSetByADropIn(t *testing.T) {
	const dropIn, images, override = kubelet + ".d/10-image-override.conf", "/etc/kubernetes/images.env", "/etc/kubernetes/images.override.env"
	files := typhoon(t)
	files[override] = []byte("KUBELET_IMAGE=docker.io/psdn/kubelet@sha256:" + strings.Repeat("a", 64) + "\n")
	files[dropIn] = []byte("[Service]\nEnvironment=A=b KUBELET_LOG=2\n")
	if found := Lint(files, version); len(found) > 0 {
		t.Errorf("another variable: got %+v", found)
	}
	files[dropIn] = []byte("[Service]\nEnvironment=A=b \"KUBELET_IMAGE=docker.io/psdn/kubelet:v1\"\n")
	found := Lint(files, version)
	if len(found) != 2 || found[0].File != dropIn || found[0].Line != 2 || !strings.Contains(found[0].Message, images) || !strings.Contains(found[1].Message, override) {
		t.Errorf("got %+v, want one finding for each file", found)
	}
	delete(files, images)
	delete(files, override)
	if found := Lint(files, version); len(found) > 0 {
		t.Errorf("files that are not known: got %+v", found)
	}
}

func FuzzLint(f *testing.F) {
	for name, body := range tree() {
		f.Add(name, body)
	}
	f.Fuzz(func(t *testing.T, name, body string) {
		lines := strings.Count(body, "\n") + 1
		for _, found := range Lint(map[string][]byte{name: []byte(body)}, version) {
			if found.Line < 1 || found.Line > lines || found.Message == "" {
				t.Errorf("got %+v in %d lines", found, lines)
			}
		}
	})
}

// A tree ten times as large as a control plane's, for the target of 200 ms.
func BenchmarkLint(b *testing.B) {
	files := typhoon(b)
	for i := range 10 {
		for name, body := range maps.All(tree()) {
			files[strings.Replace(name, "/etc/", fmt.Sprintf("/etc/%d/", i), 1)] = []byte(body)
		}
	}
	for b.Loop() {
		Lint(files, version)
	}
}

// Calico's install-cni, as a user's add-on has it, got a pair of categories of
// its own in each pod, so that the next pod could not replace its files.
func TestCalicosInstallCNIWantsTheLevelOfAll(t *testing.T) {
	const name = "/etc/kubernetes/bootstrap/calico/calico.yaml"
	for level, want := range map[string]int{"securityContext: {seLinuxOptions: {level: s0}}": 0, "securityContext: {seLinuxOptions: {type: spc_t}}": 2, "tty: false": 2} {
		found := lintTree(t, map[string]string{name: `apiVersion: apps/v1
kind: DaemonSet
metadata: {name: calico-node, namespace: kube-system}
spec:
  template:
    spec:
      initContainers:
      - name: install-cni
        image: example.org/calico-cni:v3
        command: [/opt/cni/bin/install]
        ` + level + `
        volumeMounts: [{name: bin, mountPath: /host/opt/cni/bin}, {name: net, mountPath: /host/etc/cni/net.d}]
      containers: [{name: calico-node, image: "example.org/calico-node:v3"}]
      volumes: [{name: bin, hostPath: {path: /opt/cni/bin}}, {name: net, hostPath: {path: /etc/cni/net.d}}]
`})
		if len(found) != want || want > 0 && !Failed(found) {
			t.Errorf("%s: got %+v, want %d findings", level, found, want)
		}
	}
}

// A controller with everything, of each family: what the bundle renders is what
// the lint accepts. A warning is a finding, too.
func TestControllersOfEachFamilyHaveNoErrors(t *testing.T) {
	for _, family := range []string{"fcos", "flatcar", "debian"} {
		c, err := bundle.Load("../testdata/controller")
		if err != nil {
			t.Fatal(err)
		}
		c.OS.Family = family
		files := files(t, c)
		for _, f := range Lint(files, version) {
			t.Errorf("%s: %+v", family, f)
		}
		pod := "/etc/kubernetes/manifests/kube-apiserver.yaml"
		files[pod] = []byte(strings.Replace(string(files[pod]), "--etcd-servers=", "--etcd-server=", 1))
		if found := Lint(files, version); len(found) != 1 || found[0].File != pod {
			t.Errorf("%s: got %+v, want the flag that there is not", family, found)
		}
	}
}
