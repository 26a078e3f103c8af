package bundle

import (
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	systemd "github.com/coreos/go-systemd/v22/unit"
	parser "github.com/imgctl/imgctl/pkg/bundle/unit"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	"sigs.k8s.io/yaml"
)

const unitPath = unitDir + "kubelet.service"

// settings parses a unit file with systemd's own Go library.
func settings(t testing.TB, file string) map[string][]string {
	t.Helper()
	options, err := systemd.DeserializeOptions(strings.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	values := map[string][]string{}
	for _, o := range options {
		key := o.Section + "." + o.Name
		values[key] = append(values[key], strings.ReplaceAll(o.Value, "\\\n", " "))
	}
	return values
}

// words splits a command line as systemd.service(5), "Command lines", has it,
// and undoes specifiers and variables; a variable that is expanded stays as it is.
func words(line string) []string {
	var out []string
	var w strings.Builder
	var in, quoted bool
	for i := 0; i < len(line); i++ {
		switch c := line[i]; {
		case c == '\\' && quoted:
			i++
			w.WriteByte(line[i])
		case c == '"':
			quoted, in = !quoted, true
		case (c == ' ' || c == '\t') && !quoted:
			if in {
				out = append(out, w.String())
				w.Reset()
				in = false
			}
		case (c == '%' || c == '$') && i+1 < len(line) && line[i+1] == c:
			i++
			fallthrough
		default:
			w.WriteByte(c)
			in = true
		}
	}
	if in {
		out = append(out, w.String())
	}
	return out
}

func kubeletService(t testing.TB, c *Config) map[string][]string {
	t.Helper()
	return settings(t, body(t, rendered(t, c), unitPath))
}

func TestTheUnitSaysWhatWasMeant(t *testing.T) {
	u := kubeletService(t, load(t))
	for key, want := range map[string][]string{
		"Unit.Wants":              {"network-online.target containerd.service wait-for-dns.service pull-images.service rpc-statd.service"},
		"Unit.After":              {"network-online.target containerd.service wait-for-dns.service pull-images.service"},
		"Service.EnvironmentFile": {"/etc/kubernetes/images.env", "-/etc/kubernetes/images.override.env"},
		"Service.Delegate":        {"yes"},
		"Service.Restart":         {"always"},
		"Service.RestartSec":      {"10"},
		"Service.ExecStop":        {"-/usr/bin/podman stop kubelet"},
		"Install.WantedBy":        {"multi-user.target"},
	} {
		if !slices.Equal(u[key], want) {
			t.Errorf("%s: got %q, want %q", key, u[key], want)
		}
	}
	pre := u["Service.ExecStartPre"]
	if len(pre) != 3 {
		t.Fatalf("got %d steps, want 3", len(pre))
	}
	if got, want := words(pre[1]), []string{"/usr/bin/sh", "-c", extractCA}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	u = settings(t, body(t, rendered(t, load(t)), unitDir+pullUnitName))
	pull := `podman image exists "$KUBELET_IMAGE" || exec podman pull --quiet "$KUBELET_IMAGE"`
	if got, want := words(u["Service.ExecStart"][0]), []string{"/usr/bin/sh", "-c", pull}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTheContainerHasTheMountsOfANode(t *testing.T) {
	args := words(kubeletService(t, load(t))["Service.ExecStart"][0])
	for _, want := range []string{
		"--privileged", "--pid=host", "--network=host", "--pull=never",
		"--volume=/etc/kubernetes:/etc/kubernetes:ro,z",
		"--volume=/etc/cni/net.d:/etc/cni/net.d:ro,z",
		"--volume=/var/lib/kubelet:/var/lib/kubelet:rshared,z",
		"--volume=/var/lib/imgctl:/var/lib/imgctl:ro",
	} {
		if !slices.Contains(args, want) {
			t.Errorf("%s is missing in %q", want, args)
		}
	}
	for _, a := range args {
		volume, ok := strings.CutPrefix(a, "--volume=")
		if !ok {
			continue
		}
		part := strings.Split(volume, ":")
		// A private label (:Z) on what pods mount too locks them out.
		if slices.Contains(strings.Split(part[len(part)-1], ","), "Z") || strings.HasPrefix(volume, "/var/lib/cni") {
			t.Errorf("volume %s", volume)
		}
	}
}

// kubeletFlagTable reads which flags kubelet v1.36.2 has, and which of them are deprecated.
func kubeletFlagTable(t *testing.T) map[string]bool {
	t.Helper()
	data, err := os.ReadFile("testdata/kubelet-flags-v1.36.2.txt")
	if err != nil {
		t.Fatal(err)
	}
	current := map[string]bool{}
	for line := range strings.Lines(string(data)) {
		name, note, _ := strings.Cut(strings.TrimSpace(line), " ")
		current[name] = note != "deprecated"
	}
	return current
}

func TestTheKubeletKnowsItsFlags(t *testing.T) {
	current := kubeletFlagTable(t)
	c := load(t)
	args := words(kubeletService(t, c)["Service.ExecStart"][0])
	i := slices.Index(args, string(imageVariable))
	if i < 0 {
		t.Fatalf("no image in %q", args)
	}
	flags := args[i+1:]
	if len(flags) != 4 {
		t.Errorf("got %q, want four flags", flags)
	}
	for _, f := range flags {
		name, _, ok := strings.Cut(strings.TrimPrefix(f, "--"), "=")
		switch fresh, known := current[name]; {
		case !ok || !known:
			t.Errorf("%s: kubelet %s has no such flag", f, c.Kubernetes)
		case !fresh:
			t.Errorf("%s: deprecated in kubelet %s", f, c.Kubernetes)
		}
	}
	for name, want := range map[string]bool{"config": true, "cluster-dns": false, "network-plugin": false} {
		if current[name] != want {
			t.Errorf("the table says %t about --%s", current[name], name)
		}
	}
}

func TestLabelsAndTaintsReachTheKubelet(t *testing.T) {
	c := load(t)
	c.Kubelet.NodeLabels = map[string]string{"node.kubernetes.io/controller": "true", "example.org/a": ""}
	c.Kubelet.Taints = []Taint{{Key: "node-role.kubernetes.io/controller", Effect: "NoSchedule"}}
	tree := rendered(t, c)
	args := words(settings(t, body(t, tree, unitPath))["Service.ExecStart"][0])
	if want := "--node-labels=example.org/a=,node.kubernetes.io/controller=true,node.kubernetes.io/node="; args[len(args)-1] != want {
		t.Errorf("got %s, want %s", args[len(args)-1], want)
	}
	var k kubeletv1beta1.KubeletConfiguration
	if err := yaml.UnmarshalStrict([]byte(body(t, tree, kubeletConfigPath)), &k); err != nil {
		t.Fatal(err)
	}
	if len(k.RegisterWithTaints) != 1 || k.RegisterWithTaints[0].ToString() != "node-role.kubernetes.io/controller:NoSchedule" {
		t.Errorf("got %v", k.RegisterWithTaints)
	}
	c.Kubelet.NodeLabels, c.Kubelet.Taints, c.Role = nil, nil, Controller
	if args := words(kubeletService(t, c)["Service.ExecStart"][0]); args[len(args)-1] != "--node-labels=node.kubernetes.io/controller=true" {
		t.Errorf("got %s for a controller", args[len(args)-1])
	}
	if got := c.taints(); len(got) != 1 || got[0].Key != "node-role.kubernetes.io/controller" {
		t.Errorf("got %v for a controller", got)
	}
}

// A word is what it was, whatever it holds, or it is refused.
func TestK01WordsSurviveTheUnitFile(t *testing.T) {
	for _, w := range []string{
		"plain", "", " ", "two words", `quo"ted`, `'single'`, `back\slash`, `at the end\`, `\`, `\\`, "%h", "100%", "%%", "$HOME", "${HOME}", "$(id)", "$$",
		";", "a;b", "#no comment", "-x", "@x", "ä€", `"`, `\"`, `\x20`, "a=b c", `"$KUBELET_IMAGE"`,
	} {
		checkWord(t, w)
	}
}

func checkWord(t *testing.T, w string) {
	t.Helper()
	var u unit
	u.section("Service")
	u.exec("ExecStart", "", "/bin/echo", word(w), "end")
	u.environment("X", w)
	file, err := u.bytes()
	if err != nil {
		t.Fatalf("%q: %v", w, err)
	}
	checkParsed(t, file, w)
	s := settings(t, string(file))
	if len(s) != 2 || len(s["Service.ExecStart"]) != 1 || len(s["Service.Environment"]) != 1 {
		t.Fatalf("%q: became other settings: %q", w, s)
	}
	if slices.Contains(variables, word(w)) {
		return
	}
	if got, want := words(s["Service.ExecStart"][0]), []string{"/bin/echo", w, "end"}; !slices.Equal(got, want) {
		t.Errorf("%q: got %q, want %q in\n%s", w, got, want, file)
	}
	// An assignment expands no variable, so nothing of it is doubled.
	env := strings.ReplaceAll(s["Service.Environment"][0], "$", "$$")
	if got, want := words(env), []string{"X=" + w}; !slices.Equal(got, want) {
		t.Errorf("%q: environment: got %q, want %q in\n%s", w, got, want, file)
	}
}

func TestK01WordsThatAUnitFileCannotHoldAreRefused(t *testing.T) {
	for _, w := range []string{"a\nExecStart=/bin/sh", "\n", "a\rb", "tab\tbed", "a\x00b", "\x1b[0m", "\x7f", "\xff", "a\u0085b", "a\u2028b"} {
		for name, write := range map[string]func(*unit){
			"exec":        func(u *unit) { u.exec("ExecStart", "", "/bin/echo", word(w)) },
			"environment": func(u *unit) { u.environment("X", w) },
			"set":         func(u *unit) { u.set("Description", w) },
		} {
			var u unit
			write(&u)
			if _, err := u.bytes(); err == nil || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s %q: got %v, want one line", name, w, err)
			}
		}
	}
	for _, v := range []string{`a\`, " a", "a "} {
		var u unit
		if u.set("Description", v); u.err == nil {
			t.Errorf("%q: accepted", v)
		}
	}
}

// checkParsed reads back with the parser of lint what checkWord wrote.
func checkParsed(t *testing.T, file []byte, w string) {
	t.Helper()
	f, err := parser.Parse(file)
	if err != nil || len(f.Sections) != 1 || len(f.Sections[0].Settings) != 2 {
		t.Fatalf("%q: became other settings: %+v (%v)", w, f, err)
	}
	commands, err := f.All("Service", "ExecStart")[0].Commands()
	if err != nil || len(commands) != 1 || len(commands[0].Words) != 3 {
		t.Fatalf("%q: became other commands: %+v (%v)", w, commands, err)
	}
	expanded := slices.Contains(variables, word(w))
	if got, ok := parser.Literal(commands[0].Words[1], true); got != w || ok == expanded {
		t.Errorf("%q: got %q, %t in\n%s", w, got, ok, file)
	}
	env, err := parser.Split(f.All("Service", "Environment")[0].Value)
	if err != nil || len(env) != 1 {
		t.Fatalf("%q: became other assignments: %q (%v)", w, env, err)
	}
	if got, ok := parser.Literal(env[0], false); got != "X="+w || !ok {
		t.Errorf("%q: environment: got %q, %t in\n%s", w, got, ok, file)
	}
}

func FuzzUnitWord(f *testing.F) {
	f.Add("plain")
	f.Add(`a "b" \ %h $x ${y} ;`)
	f.Add("a\nb")
	f.Fuzz(func(t *testing.T, w string) {
		if writable(w) == nil && len(w) < 500 { // the library refuses lines of 2 KiB
			checkWord(t, w)
		}
	})
}

// The shell of a node does this at every start; here it is run for real.
func TestTheCAIsTakenOutOfTheKubeconfig(t *testing.T) {
	const ca = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
	kubeconfig := "clusters:\n- cluster:\n    certificate-authority-data: " + base64.StdEncoding.EncodeToString([]byte(ca)) + "\n    server: https://x:6443\n"
	dir := t.TempDir()
	script := strings.ReplaceAll(extractCA, "/etc/kubernetes", dir)
	run := func(kubeconfig string) error {
		if err := os.WriteFile(filepath.Join(dir, "kubeconfig"), []byte(kubeconfig), 0o600); err != nil {
			t.Fatal(err)
		}
		return exec.Command("sh", "-c", script).Run()
	}
	if err := run(kubeconfig); err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{"no CA": "clusters: []\n", "no base64": "certificate-authority-data: '*'\n"} {
		if err := run(bad); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if got, err := os.ReadFile(filepath.Join(dir, "ca.crt")); err != nil || string(got) != ca {
		t.Errorf("got %q (%v), want the CA that was there before", got, err)
	}
}
