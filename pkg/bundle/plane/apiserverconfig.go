package plane

import "github.com/imgctl/imgctl/pkg/bundle/owners"

// Files that the API server is given beside its flags.
const (
	authenticationPath = owners.Config + "/authentication.yaml"
	auditPolicyPath    = owners.Config + "/audit-policy.yaml"
)

// authenticationConfiguration is the part of Kubernetes'
// AuthenticationConfiguration that is used here.
type authenticationConfiguration struct {
	APIVersion string    `json:"apiVersion"`
	Kind       string    `json:"kind"`
	Anonymous  anonymous `json:"anonymous"`
}

type anonymous struct {
	Enabled    bool            `json:"enabled"`
	Conditions []pathCondition `json:"conditions"`
}

type pathCondition struct {
	Path string `json:"path"`
}

// authentication lets those in who are nobody yet, for two things: probes, and
// the one ConfigMap by which a machine recognises its cluster.
func authentication() authenticationConfiguration {
	return authenticationConfiguration{
		APIVersion: "apiserver.config.k8s.io/v1",
		Kind:       "AuthenticationConfiguration",
		Anonymous: anonymous{Enabled: true, Conditions: []pathCondition{
			{"/livez"}, {"/readyz"}, {"/healthz"}, {"/api/v1/namespaces/kube-public/configmaps/cluster-info"},
		}},
	}
}

// policy is the part of Kubernetes' audit policy that is used here.
type policy struct {
	APIVersion string       `json:"apiVersion"`
	Kind       string       `json:"kind"`
	OmitStages []string     `json:"omitStages"`
	Rules      []policyRule `json:"rules"`
}

type policyRule struct {
	Level           string   `json:"level"`
	Verbs           []string `json:"verbs,omitempty"`
	NonResourceURLs []string `json:"nonResourceURLs,omitempty"`
}

// auditPolicy writes down who did what, and no body of a request: Secrets are in them.
func auditPolicy() policy {
	return policy{
		APIVersion: "audit.k8s.io/v1",
		Kind:       "Policy",
		OmitStages: []string{"RequestReceived"},
		Rules: []policyRule{
			{Level: "None", NonResourceURLs: []string{"/livez*", "/readyz*", "/healthz*", "/version"}},
			{Level: "None", Verbs: []string{"watch"}},
			{Level: "Metadata"},
		},
	}
}
