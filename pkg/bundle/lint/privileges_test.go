package lint

import (
	"slices"
	"strings"
	"testing"
)

const confined = `apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  volumes: [{name: v, hostPath: {path: /var/lib/x}}]
  containers:
  - name: c
    image: registry/x@sha256:00
    command: [kube-scheduler, --v=2]
    volumeMounts: [{name: v, mountPath: /x, readOnly: true}]
    securityContext: {runAsUser: 564, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: r}
rules: [{apiGroups: [""], resources: [pods], verbs: [list, get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: b}
roleRef: {kind: ClusterRole, name: r}
subjects: [{kind: Group, name: g}]
`

// Each change of a manifest is one more privilege, or another.
func TestWhatIsGainedIsNamed(t *testing.T) {
	const path = "/etc/kubernetes/manifests/p.yaml"
	before := Privileges(map[string][]byte{path: []byte(confined)})
	if len(before) != 6 {
		t.Fatalf("got %d: %+v", len(before), before)
	}
	for old, tt := range map[string]struct{ now, gained string }{
		"--v=2":                     {"--v=2, --bind-address=0.0.0.0", "flag --bind-address=0.0.0.0"},
		"sha256:00":                 {"sha256:11", "image registry/x@sha256:11"},
		"readOnly: true":            {"readOnly: false", "mount /var/lib/x at /x: read and write"},
		"capabilities: {drop":       {"capabilities: {add: [NET_RAW], drop", "right capability NET_RAW"},
		"runAsUser: 564":            {"runAsUser: 0", "right user 0"},
		"allowPrivilegeEscalation":  {"privileged: true, allowPrivilegeEscalation", "right privileged"},
		"spec:\n  volumes":          {"spec:\n  hostNetwork: true\n  volumes", "right host network"},
		"verbs: [list, get]":        {"verbs: [list, get, delete]", "rule delete,get,list pods"},
		"subjects: [{kind: Group,":  {"subjects: [{kind: User, name: u}, {kind: Group,", "rule User u is ClusterRole r"},
		"resources: [pods], verbs:": {"resources: [pods], resourceNames: [a], verbs:", `rule get,list pods named ["a"]`},
	} {
		changed := strings.Replace(confined, old, tt.now, 1)
		if changed == confined {
			t.Fatalf("%q is not in the manifest", old)
		}
		after := Privileges(map[string][]byte{path: []byte(changed)})
		gained := slices.DeleteFunc(after, func(p Privilege) bool { return slices.Contains(before, p) })
		if len(gained) != 1 || gained[0].Kind+" "+gained[0].What != tt.gained {
			t.Errorf("%s: got %+v, want %s", tt.now, gained, tt.gained)
		}
	}
	again := Privileges(map[string][]byte{path: []byte(strings.Replace(confined, "[list, get]", "[get, list]", 1))})
	if !slices.Equal(again, before) {
		t.Errorf("the order of verbs is taken for a change: %+v", again)
	}
}
