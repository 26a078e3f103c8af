package bootstrap

import (
	"errors"
	"io/fs"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/imgctl/imgctl/internal/strict"
)

func TestAClusterFileHasDefaults(t *testing.T) {
	text := clusterFile[:strings.Index(clusterFile, "lifetimes:")]
	c, warnings, err := Parse("cluster.yaml", []byte(text))
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	got := []any{c.EncryptionAlgorithm, c.Networking.DNSDomain, c.Networking.DNSServiceIP, c.BootstrapToken.Groups, c.Lifetimes, c.Server()}
	want := []any{"ECDSA-P256", "cluster.local", "10.3.0.10", []string{DefaultGroup},
		Lifetimes{CA: 87600 * time.Hour, Certificate: 8760 * time.Hour, SuperAdmin: 72 * time.Hour, Token: 24 * time.Hour}, "https://api.example.com:6443"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAFileThatIsNotThereIsCalledThat(t *testing.T) {
	if _, _, err := Load(filepath.Join(t.TempDir(), "cluster.yaml")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

// Each row changes one thing in a file that is accepted, and is refused where it stands.
func TestAClusterFileIsRefusedWithLineAndColumn(t *testing.T) {
	parsed(t) // the sibling that passes
	for name, tt := range map[string]struct{ old, new, want string }{
		"unknown key (C02)":            {"podSubnet:", "podCIDR:", `cluster.yaml:9:3: unknown field "podCIDR"`},
		"duplicate key":                {"name: example", "name: example\nname: b", "cluster.yaml:4:1: "},
		"another kind":                 {"kind: Cluster", "kind: Bundle", "cluster.yaml:2:7: kind"},
		"name":                         {"name: example", "name: Example", `cluster.yaml:3:7: name: got "Example"`},
		"name that YAML reads (K03)":   {"name: example", "name: 'yes '", "cluster.yaml:3:7: name"},
		"endpoint without a port":      {"api.example.com:6443", "api.example.com", "cluster.yaml:4:23: controlPlaneEndpoint: got"},
		"endpoint with a scheme":       {"api.example.com:6443", "https://api.example.com:6443", "cluster.yaml:4:23: "},
		"endpoint port 0":              {"api.example.com:6443", "api.example.com:0", "cluster.yaml:4:23: controlPlaneEndpoint: port"},
		"endpoint of any address":      {"api.example.com:6443", "0.0.0.0:6443", "cluster.yaml:4:23: "},
		"endpoint in the pod range":    {"api.example.com:6443", "10.2.0.9:6443", "cluster.yaml:4:23: controlPlaneEndpoint: 10.2.0.9 is in the range 10.2.0.0/16"},
		"name with a line break (K01)": {"node1.example.com]", "\"a\\nb\"]", "apiServer.certSANs[1]"},
		"address out of range":         {"192.0.2.10, ", "192.0.2.300, ", "cluster.yaml:6:14: apiServer.certSANs[0]"},
		"wildcard":                     {"192.0.2.10, ", "'*.example.com', ", "cluster.yaml:6:14: apiServer.certSANs[0]"},
		"no range":                     {"serviceSubnet: 10.3.0.0/16", "serviceSubnet: ''", "cluster.yaml:8:18: networking.serviceSubnet"},
		"range that is an address":     {"serviceSubnet: 10.3.0.0/16", "serviceSubnet: 10.3.0.1/16", "want the range's first address: 10.3.0.0/16"},
		"services too many":            {"serviceSubnet: 10.3.0.0/16", "serviceSubnet: 10.0.0.0/8", "4 to 20 bits"},
		"services too few":             {"serviceSubnet: 10.3.0.0/16", "serviceSubnet: 10.3.0.0/30", "4 to 20 bits"},
		"two ranges of one family":     {"serviceSubnet: 10.3.0.0/16", "serviceSubnet: '10.3.0.0/16,10.4.0.0/16'", "one CIDR of each family"},
		"ranges that overlap":          {"podSubnet: 10.2.0.0/16", "podSubnet: 10.0.0.0/14", "cluster.yaml:9:14: networking.podSubnet: 10.0.0.0/14 overlaps the service subnet 10.3.0.0/16"},
		"DNS outside the services":     {"etcd:", "  dnsServiceIP: 10.2.0.10\netcd:", "cluster.yaml:10:17: networking.dnsServiceIP: got 10.2.0.10"},
		"DNS at the API server's":      {"etcd:", "  dnsServiceIP: 10.3.0.1\netcd:", "API server's own"},
		"DNS domain":                   {"etcd:", "  dnsDomain: cluster.local.\netcd:", "cluster.yaml:10:14: networking.dnsDomain"},
		"no member of etcd":            {"[node1.example.com]\nlife", "[]\nlife", "etcd.servers: got none"},
		"a member twice":               {"[node1.example.com]\nlife", "[a, b, a]\nlife", "cluster.yaml:11:19: etcd.servers[2]: a is there twice"},
		"a member as URL":              {"[node1.example.com]\nlife", "['https://a:2379']\nlife", "etcd.servers[0]"},
		"algorithm":                    {"lifetimes:", "encryptionAlgorithm: MD5\nlifetimes:", `got "MD5", want one of ECDSA-P256`},
		"lifetime without a unit":      {"token: 2h", "token: 2", "cluster.yaml:16:"},
		"lifetime below zero":          {"token: 2h", "token: -2h", "cluster.yaml:16:10: lifetimes.token"},
		"certificate beyond its CA":    {"certificate: 4380h", "certificate: 90000h", "cluster.yaml:14:16: lifetimes.certificate"},
		"group of the token":           {"lifetimes:", "bootstrapToken: {groups: ['system:masters']}\nlifetimes:", `bootstrapToken.groups[0]: got "system:masters"`},
		"role":                         {"lifetimes:", "roles: {master: {}}\nlifetimes:", `roles: got "master"`},
		"recipient":                    {"lifetimes:", "roles: {worker: {recipients: [age1x]}}\nlifetimes:", "roles.worker.recipients[0]: recipient"},
	} {
		t.Run(name, func(t *testing.T) {
			text := strings.Replace(clusterFile, tt.old, tt.new, 1)
			if text == clusterFile {
				t.Fatalf("%q is not in the file", tt.old)
			}
			_, _, err := Parse("cluster.yaml", []byte(text))
			var se *strict.Error
			if !errors.As(err, &se) || se.Line == 0 {
				t.Fatalf("got %v, want a *strict.Error with its place", err)
			}
			if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, want one line with %q", err, tt.want)
			}
		})
	}
}

func TestAnEvenNumberOfEtcdMembersIsAWarning(t *testing.T) {
	for members, want := range map[string]int{"[a]": 0, "[a, b]": 1, "[a, b, c]": 0} {
		text := strings.Replace(clusterFile, "[node1.example.com]\nlife", members+"\nlife", 1)
		_, warnings, err := Parse("cluster.yaml", []byte(text))
		if err != nil || len(warnings) != want {
			t.Errorf("%s: got %q and %v, want %d warnings", members, warnings, err, want)
		}
		if want == 1 && !strings.HasPrefix(warnings[0], "cluster.yaml:11:") {
			t.Errorf("got %q, want the place", warnings[0])
		}
	}
}

func TestBothFamiliesAreAccepted(t *testing.T) {
	c := parsed(t, "serviceSubnet: 10.3.0.0/16", "serviceSubnet: '10.3.0.0/16,fd00:3::/108'", "podSubnet: 10.2.0.0/16", "podSubnet: '10.2.0.0/16,fd00:2::/56'")
	names := strings.Join(c.apiServerNames(), " ")
	for _, want := range []string{"10.3.0.1", "fd00:3::1", "kubernetes.default.svc.cluster.local", "api.example.com", "192.0.2.10"} {
		if !strings.Contains(" "+names+" ", " "+want+" ") {
			t.Errorf("%s is not among %s", want, names)
		}
	}
}

// Whatever a file says, it is read or refused with one line.
func FuzzParse(f *testing.F) {
	f.Add([]byte(clusterFile))
	f.Add([]byte("apiVersion: imgctl.dev/v1\nkind: Cluster\nnetworking: {serviceSubnet: '::/128,0.0.0.0/0'}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, _, err := Parse("cluster.yaml", data)
		if err != nil {
			var se *strict.Error
			if !errors.As(err, &se) {
				t.Fatalf("got %T %v, want a *strict.Error", err, err)
			}
			return
		}
		if len(c.apiServerNames()) < 6 || c.check() != nil {
			t.Errorf("accepted and of no use: %+v", c)
		}
	})
}
