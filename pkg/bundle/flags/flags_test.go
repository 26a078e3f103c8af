package flags

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
)

const v136 = "v1.36.2"

// Each bad command line has a sibling that differs in what is wrong, and passes.
func TestCheckFindsWhatAComponentWouldNotTake(t *testing.T) {
	for name, tt := range map[string]struct {
		component, bad, good string
		severity             Severity
		want, hint           string
	}{
		"unknown":            {"kubelet", "--confg=/x", "--config=/x", Error, "--confg: kubelet v1.36 has no such flag", "did you mean --config?"},
		"nothing like it":    {"kubelet", "--qqqqqqqqqqqqqqqqqqqqqqqqq", "--help", Error, "has no such flag", ""},
		"long gone":          {"kubelet", "--network-plugin=cni", "--config=/x", Error, "removed before 1.", ""},
		"other component":    {"kube-scheduler", "--service-cluster-ip-range=10.3.0.0/24", "--leader-elect", Error, "kube-scheduler v1.36 has no such flag", ""},
		"deprecated":         {"kubelet", "--client-ca-file=/ca.crt", "--config=/x", Warning, "--client-ca-file: deprecated: ", "set authentication.x509.clientCAFile in the KubeletConfiguration"},
		"underscore":         {"kube-apiserver", "--secure_port=6443", "--secure-port=6443", Warning, "--secure_port: a flag is spelt with dashes", "write --secure-port"},
		"twice":              {"kubelet", "--config=/x --config=/y", "--config=/x --kubeconfig=/y", Error, "--config: given twice", "give it once"},
		"bool":               {"kube-apiserver", "--allow-privileged=ja", "--allow-privileged=true", Error, `got "ja", want true or false`, ""},
		"duration":           {"kube-controller-manager", "--cluster-signing-duration=72", "--cluster-signing-duration=72h", Error, `got "72", want a duration with its unit`, ""},
		"whole number":       {"kube-apiserver", "--secure-port=x", "--secure-port=6443", Error, `got "x", want a whole number`, ""},
		"number too big":     {"kube-controller-manager", "--node-cidr-mask-size=4294967296", "--node-cidr-mask-size=24", Error, "want a whole number", ""},
		"address":            {"kube-apiserver", "--advertise-address=host", "--advertise-address=10.0.0.1", Error, "want an IP address", ""},
		"feature gate":       {"kubelet", "--feature-gates=A=maybe", "--config=/x", Error, "want NAME=true", ""},
		"no value":           {"kubelet", "--config", "--config /x", Error, "--config: got no value", ""},
		"positional":         {"kubelet", "run", "--v=2", Error, `"run": kubelet takes flags alone`, ""},
		"one dash":           {"kube-scheduler", "-leader-elect", "-v 2", Error, "takes flags alone", ""},
		"bool before a word": {"kube-scheduler", "--leader-elect true", "--leader-elect=true", Error, `"true": kube-scheduler takes flags alone`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if found := Check(tt.component, v136, strings.Fields(tt.good)); len(found) > 0 {
				t.Errorf("%s: got %v, want nothing", tt.good, found)
			}
			found := Check(tt.component, v136, strings.Fields(tt.bad))
			for _, f := range found {
				if f.Severity == tt.severity && strings.Contains(f.Message, tt.want) && f.Hint == tt.hint {
					return
				}
			}
			t.Errorf("%s: got %+v, want %s %q, hint %q", tt.bad, found, tt.severity, tt.want, tt.hint)
		})
	}
}

// What the neighbouring tables have says when a flag went or came.
func TestFlagsOfOtherVersionsAreNamed(t *testing.T) {
	for _, tt := range []struct{ component, version, arg, want string }{
		{"kubelet", "v1.37.1", "--containerd=/x", "removed in 1.37"},
		{"kubelet", "v1.35.4", "--pod-infra-container-image=x", "removed in 1.35"},
		{"kubelet", v136, "--pod-infra-container-image=x", "removed in 1.35"},
		{"kubelet", "v1.34.4", "--network-plugin=cni", "removed before 1.34"},
		{"kube-scheduler", "v1.35.4", "--tls-curve-preferences=X25519", "new in 1.36"},
		{"kube-apiserver", "v1.34.4", "--min-compatibility-version=kube=1.33", "new in 1.35"},
		{"kube-controller-manager", v136, "--concurrent-disruption-syncs=5", "new in 1.37"},
	} {
		found := Check(tt.component, tt.version, []string{tt.arg})
		if len(found) != 1 || found[0].Severity != Error || !strings.HasSuffix(found[0].Message, tt.want) {
			t.Errorf("%s %s %s: got %+v, want %s", tt.component, tt.version, tt.arg, found, tt.want)
		}
	}
	for _, tt := range []struct{ component, version, arg string }{
		{"kubelet", v136, "--containerd=/x"},
		{"kubelet", "v1.34.4", "--pod-infra-container-image=x"},
		{"kube-controller-manager", "v1.37.1", "--concurrent-disruption-syncs=5"},
		{"kube-scheduler", v136, "--tls-curve-preferences=X25519"},
		{"kube-apiserver", "v1.35.4", "--min-compatibility-version=kube=1.33"},
	} {
		for _, f := range Check(tt.component, tt.version, []string{tt.arg}) {
			if f.Severity == Error {
				t.Errorf("%s %s %s: got %+v", tt.component, tt.version, tt.arg, f)
			}
		}
	}
}

func TestFlagsThatCollectMayBeGivenTwice(t *testing.T) {
	for component, args := range map[string][]string{
		"kube-apiserver":          {"--service-account-key-file=/a", "--service-account-key-file=/b", "--tls-sni-cert-key=a,b", "--tls-sni-cert-key=c,d"},
		"kubelet":                 {"--node-labels=a=b", "--node-labels=c=d"},
		"kube-controller-manager": {"--controllers=*", "--controllers=tokencleaner"},
	} {
		if found := Check(component, v136, args); len(found) > 0 {
			t.Errorf("%s %q: got %v", component, args, found)
		}
	}
}

func TestVariablesAreNotTakenForValues(t *testing.T) {
	args := []string{"--advertise-address=$(POD_IP)", "--secure-port=${PORT}", "--allow-privileged=$X"}
	if found := Check("kube-apiserver", v136, args); len(found) > 0 {
		t.Errorf("got %v", found)
	}
}

func TestFindingsNameTheArgument(t *testing.T) {
	found := Check("kubelet", v136, []string{"--config", "/x", "--nope", "--kubeconfig=/y"})
	if len(found) != 1 || found[0].Arg != 2 {
		t.Errorf("got %+v, want one finding about argument 2", found)
	}
}

func TestWithoutATableTheTablesAreNamed(t *testing.T) {
	for version, want := range map[string]string{
		"v1.20.0": "no table of the flags of Kubernetes v1.20, only of " + strings.Join(Minors(), ", "),
		"1.36.2":  `version: got "1.36.2"`,
		"":        `version: got ""`,
	} {
		found := Check("kubelet", version, nil)
		if len(found) != 1 || found[0].Severity != Error || found[0].Arg != -1 || !strings.Contains(found[0].Message, want) {
			t.Errorf("%q: got %+v, want one error with %q", version, found, want)
		}
	}
	found := Check("kube-proxy", v136, nil)
	if len(found) != 1 || !strings.Contains(found[0].Message, `"kube-proxy", only of kube-apiserver, `) {
		t.Errorf("got %+v", found)
	}
}

func TestEveryTableHasEveryComponent(t *testing.T) {
	if want := []string{"v1.34", "v1.35", "v1.36", "v1.37"}; !slices.Equal(Minors(), want) {
		t.Errorf("got tables of %v, want %v", Minors(), want)
	}
	for _, minor := range Minors() {
		for component, name := range map[string]string{
			"kubelet": "config", "kube-apiserver": "service-cluster-ip-range",
			"kube-controller-manager": "cluster-signing-duration", "kube-scheduler": "leader-elect",
		} {
			table, err := load(component, minor)
			if err != nil {
				t.Fatal(err)
			}
			if f := table.flags[name]; f.kind == "" || len(table.flags) < 50 || f.deprecated != "" {
				t.Errorf("%s %s: got %+v of %d flags", component, minor, f, len(table.flags))
			}
		}
	}
}

// The hints are checked against KubeletConfiguration itself.
func TestDeprecatedFlagsMovedToFieldsThatExist(t *testing.T) {
	for name, field := range kubeletFields {
		at := reflect.TypeFor[kubeletv1beta1.KubeletConfiguration]()
		for part := range strings.SplitSeq(field, ".") {
			next, ok := fieldOf(at, part)
			if !ok {
				t.Errorf("--%s: KubeletConfiguration has no %s", name, field)
				break
			}
			at = next
		}
	}
	if _, ok := fieldOf(reflect.TypeFor[kubeletv1beta1.KubeletConfiguration](), "clusterDns"); ok {
		t.Error("any field is found")
	}
}

func fieldOf(t reflect.Type, name string) (reflect.Type, bool) {
	if t.Kind() != reflect.Struct {
		return nil, false
	}
	for f := range t.Fields() {
		tag, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if tag == name {
			return f.Type, true
		}
		if tag == "" && f.Anonymous {
			if inner, ok := fieldOf(f.Type, name); ok {
				return inner, true
			}
		}
	}
	return nil, false
}

// K14: the policy, at both of its edges.
func TestK14SkewOfVersions(t *testing.T) {
	for _, tt := range []struct {
		component, version, apiserver, want string
	}{
		{"kubelet", "v1.33.9", "v1.36.2", ""},
		{"kubelet", "v1.32.9", "v1.36.2", "4 minors older"},
		{"kubelet", "v1.36.9", "v1.36.2", ""},
		{"kubelet", "v1.37.0", "v1.36.2", "1 minor newer than kube-apiserver v1.36.2, want at most 0"},
		{"kube-proxy", "v1.33.0", "v1.36.2", ""},
		{"kube-proxy", "v1.37.0", "v1.36.2", "newer"},
		{"kube-controller-manager", "v1.35.0", "v1.36.2", ""},
		{"kube-controller-manager", "v1.34.0", "v1.36.2", "2 minors older"},
		{"kube-scheduler", "v1.36.0", "v1.36.2", ""},
		{"kube-scheduler", "v1.37.0", "v1.36.2", "1 minor newer"},
		{"kubectl", "v1.37.0", "v1.36.2", ""},
		{"kubectl", "v1.38.0", "v1.36.2", "2 minors newer"},
		{"kubectl", "v1.35.0", "v1.36.2", ""},
		{"kubectl", "v1.34.0", "v1.36.2", "2 minors older"},
		{"kubelet", "v2.36.0", "v1.36.2", "major"},
		{"kubelet", "stable", "v1.36.2", `got "stable"`},
		{"kubelet", "v1.36.2", "1.36", `got "1.36"`},
		{"etcd", "v3.6.0", "v1.36.2", "does not name it"},
	} {
		err := Skew(tt.component, tt.version, tt.apiserver)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %s at %s: got %v, want %q", tt.component, tt.version, tt.apiserver, err, tt.want)
		}
	}
}

func FuzzCheck(f *testing.F) {
	f.Add("--config /x --v=2")
	f.Add("--cluster_dns=a --")
	f.Add("-v")
	f.Fuzz(func(t *testing.T, line string) {
		args := strings.Split(line, " ")
		for _, finding := range Check("kubelet", v136, args) {
			if finding.Arg < 0 || finding.Arg >= len(args) || finding.Message == "" {
				t.Errorf("%q: got %+v", args, finding)
			}
		}
	})
}
