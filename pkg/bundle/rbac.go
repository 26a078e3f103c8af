package bundle

import (
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// tlsBootstrap returns the bindings by which a kubelet with a bootstrap token
// gets its client certificate and renews it, by file name (Kubernetes, "TLS
// bootstrapping").
func tlsBootstrap() (map[string][]byte, error) {
	files := make(map[string][]byte)
	for name, b := range map[string]struct{ role, group string }{
		// Whoever has a bootstrap token may ask for a certificate …
		"bootstrap-node": {"system:node-bootstrapper", "system:bootstrappers"},
		// … and is given one for a node without anybody looking.
		"bootstrap-approve-new": {"system:certificates.k8s.io:certificatesigningrequests:nodeclient", "system:bootstrappers"},
		// A node may renew its own.
		"bootstrap-approve-renew": {"system:certificates.k8s.io:certificatesigningrequests:selfnodeclient", "system:nodes"},
	} {
		body, err := yaml.Marshal(clusterRoleBinding(name, b.role, b.group))
		if err != nil {
			return nil, err
		}
		files[name+".yaml"] = body
	}
	return files, nil
}

func clusterRoleBinding(name, role, group string) rbacv1.ClusterRoleBinding {
	return rbacv1.ClusterRoleBinding{
		TypeMeta:   metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: "ClusterRoleBinding"},
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: group}},
	}
}
