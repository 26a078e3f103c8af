package bundle

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/goccy/go-yaml"
	"github.com/google/go-cmp/cmp"
	rbacv1 "k8s.io/api/rbac/v1"
	kubeletv1beta1 "k8s.io/kubelet/config/v1beta1"
	k8syaml "sigs.k8s.io/yaml"
)

// The type of this package is a part of Kubernetes' own: nothing is unknown to
// that one, and nothing is lost or changed in it.
func TestTheKubeletConfigurationIsKubernetesOwn(t *testing.T) {
	c := load(t)
	c.Kubelet.Taints = []Taint{{Key: "a", Value: "b", Effect: "NoExecute"}, {Key: "c", Effect: "NoSchedule"}}
	text := []byte(body(t, rendered(t, c), kubeletConfigPath))
	var k kubeletv1beta1.KubeletConfiguration
	if err := k8syaml.UnmarshalStrict(text, &k); err != nil {
		t.Fatal(err)
	}
	theirs, err := json.Marshal(k)
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := json.Unmarshal(theirs, &got); err != nil {
		t.Fatal(err)
	}
	if err := k8syaml.Unmarshal(text, &want); err != nil {
		t.Fatal(err)
	}
	delete(want, "readOnlyPort") // 0, which their type leaves out
	for key, value := range want {
		if diff := cmp.Diff(value, subset(got[key], value)); diff != "" {
			t.Errorf("%s: -ours +theirs:\n%s", key, diff)
		}
	}
	if k.ReadOnlyPort != 0 || *k.Authentication.Anonymous.Enabled || !*k.Authentication.Webhook.Enabled || k.Authorization.Mode != kubeletv1beta1.KubeletAuthorizationModeWebhook {
		t.Errorf("a door is open: %+v", k.Authentication)
	}
}

// subset is v without the keys that like does not have, at any depth.
func subset(v, like any) any {
	m, ok := v.(map[string]any)
	l, ok2 := like.(map[string]any)
	if !ok || !ok2 {
		return v
	}
	out := map[string]any{}
	for key := range l {
		if inner, ok := m[key]; ok {
			out[key] = subset(inner, l[key])
		}
	}
	return out
}

// A string is a string for every YAML reader, YAML 1.1 or 1.2.
func TestK03StringsStayStrings(t *testing.T) {
	for _, domain := range []string{"yes", "no", "on", "null", "true", "y", "0x10", "0o17", "017", "1e3", "1.5", "12", "1-2", "2026-07-01", "cluster.local"} {
		c := load(t)
		c.Cluster.Domain = domain
		text := []byte(body(t, rendered(t, c), kubeletConfigPath))
		for name, unmarshal := range map[string]func([]byte, any) error{
			"sigs.k8s.io/yaml": func(b []byte, v any) error { return k8syaml.Unmarshal(b, v) },
			"goccy/go-yaml":    func(b []byte, v any) error { return yaml.Unmarshal(b, v) },
		} {
			var got map[string]any
			if err := unmarshal(text, &got); err != nil {
				t.Fatal(err)
			}
			if got["clusterDomain"] != domain {
				t.Errorf("%s: got %#v, want the string %q", name, got["clusterDomain"], domain)
			}
		}
	}
}

// What a DNS domain cannot be, an argument can.
func TestK03ArgumentsOfAProviderSurviveAnyYAMLReader(t *testing.T) {
	args := []string{
		"yes", "NO", "~", "", " ", "0x10", "0b1", "1_000", "1e3", ".inf", "-", "- a", "a: b", ": ", "a #b", "#b", "[]", "[a", "*a", "&a b", "!!str a",
		"|", ">", "%a", "@a", "`a", "'a'", `"a"`, `\`, "ä", "😀", "<<", "=", "2026-07-01T00:00:00Z", "12:30:45",
	}
	c := load(t)
	c.Kubelet.CredentialProviders = &CredentialProviders{Directory: "/opt/providers", Providers: []CredentialProvider{
		{Name: "a", MatchImages: []string{"*.example.com"}, CacheDuration: "12h", Args: args},
	}}
	text := []byte(body(t, rendered(t, c), credentialPath))
	for name, unmarshal := range map[string]func([]byte, any) error{
		"sigs.k8s.io/yaml": func(b []byte, v any) error { return k8syaml.UnmarshalStrict(b, v) },
		"goccy/go-yaml":    func(b []byte, v any) error { return yaml.Unmarshal(b, v) },
	} {
		var got struct {
			APIVersion, Kind string
			Providers        []struct {
				Name, APIVersion, DefaultCacheDuration string
				MatchImages                            []string
				Args                                   []any
			}
		}
		if err := unmarshal(text, &got); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		for i, want := range args {
			if i >= len(got.Providers[0].Args) || got.Providers[0].Args[i] != want {
				t.Errorf("%s: got %#v, want the string %q at %d", name, got.Providers[0].Args, want, i)
				break
			}
		}
	}
	for _, bad := range []string{"a\tb", "a\nb", "\n", "\x00", "\u0085", "\u2028", "\ufeff", "\xff\n"} {
		c.Kubelet.CredentialProviders.Providers[0].Args = []string{bad}
		if tree, err := Render(c, pinned); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: got %d files, %v", bad, len(tree.Files), err)
		}
	}
}

func TestTheBindingsAreThoseOfTLSBootstrapping(t *testing.T) {
	type binding struct{ Role, Group string }
	got := map[string]binding{}
	for _, f := range rendered(t, load(t)).Files {
		if !strings.HasPrefix(f.Path, manifestsPath+"bootstrap-") {
			continue
		}
		var b rbacv1.ClusterRoleBinding
		if err := k8syaml.UnmarshalStrict(f.Body, &b); err != nil {
			t.Fatal(err)
		}
		if b.APIVersion != "rbac.authorization.k8s.io/v1" || b.Kind != "ClusterRoleBinding" || b.RoleRef.Kind != "ClusterRole" ||
			b.RoleRef.APIGroup != "rbac.authorization.k8s.io" || len(b.Subjects) != 1 || b.Subjects[0].Kind != "Group" || b.Subjects[0].APIGroup != b.RoleRef.APIGroup {
			t.Errorf("%s: got %+v", f.Path, b)
		}
		if strings.Contains(string(f.Body), "null") {
			t.Errorf("%s holds fields that nobody set:\n%s", f.Path, f.Body)
		}
		got[b.Name] = binding{b.RoleRef.Name, b.Subjects[0].Name}
	}
	want := map[string]binding{
		"bootstrap-node":          {"system:node-bootstrapper", "system:bootstrappers"},
		"bootstrap-approve-new":   {"system:certificates.k8s.io:certificatesigningrequests:nodeclient", "system:bootstrappers"},
		"bootstrap-approve-renew": {"system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "system:nodes"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}
