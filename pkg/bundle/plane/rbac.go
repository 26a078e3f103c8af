package plane

import (
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Groups that the API server knows.
const (
	bootstrappers    = "system:bootstrappers"
	kubeadmTokens    = "system:bootstrappers:kubeadm:default-node-token"
	nodes            = "system:nodes"
	clusterInfo      = "cluster-info"
	clusterInfoRole  = "kubeadm:bootstrap-signer-clusterinfo"
	certificateRoles = "system:certificates.k8s.io:certificatesigningrequests:"
)

// tlsBootstrap returns the bindings by which a kubelet with a bootstrap token
// gets its client certificate and renews it, by file name (Kubernetes, "TLS
// bootstrapping").
func tlsBootstrap(kubeadm bool) map[string][]any {
	node, approve, renew, group := "bootstrap-node", "bootstrap-approve-new", "bootstrap-approve-renew", bootstrappers
	if kubeadm {
		node, approve, renew, group = "kubeadm:kubelet-bootstrap", "kubeadm:node-autoapprove-bootstrap", "kubeadm:node-autoapprove-certificate-rotation", kubeadmTokens
	}
	return map[string][]any{
		// Whoever has a bootstrap token may ask for a certificate …
		"bootstrap-node": {bindGroup(node, "system:node-bootstrapper", group)},
		// … and is given one for a node without anybody looking.
		"bootstrap-approve-new": {bindGroup(approve, certificateRoles+"nodeclient", group)},
		// A node may renew its own.
		"bootstrap-approve-renew": {bindGroup(renew, certificateRoles+"selfnodeclient", nodes)},
	}
}

// ClusterInfoReader returns the role by which everybody reads the one ConfigMap
// cluster-info, and its binding; the names are those of kubeadm.
func ClusterInfoReader() []any {
	const namespace = metav1.NamespacePublic
	return []any{
		rbacv1.Role{
			TypeMeta:   rbacType("Role"),
			ObjectMeta: metav1.ObjectMeta{Name: clusterInfoRole, Namespace: namespace},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{clusterInfo}, Verbs: []string{"get"}}},
		},
		rbacv1.RoleBinding{
			TypeMeta:   rbacType("RoleBinding"),
			ObjectMeta: metav1.ObjectMeta{Name: clusterInfoRole, Namespace: namespace},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: clusterInfoRole},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "system:anonymous"}},
		},
	}
}

// kubeletDelete lets a node take itself out of the cluster. The rule for nodes
// is about all of them: it is NodeRestriction, an admission plugin, that confines
// each to its own. The other two are for "kubectl drain": it asks of which
// DaemonSet a pod is, and asks for a pod that is gone until the answer is "not
// found", which the node authorizer alone would never give.
func kubeletDelete() []any {
	return []any{
		clusterRole("kubelet-delete",
			allow("", "nodes", "delete"),
			allow("apps", "daemonsets", "get"),
			allow("", "pods", "get")),
		bindGroup("kubelet-delete", "kubelet-delete", nodes),
	}
}

func allow(group, resource string, verbs ...string) rbacv1.PolicyRule {
	return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
}

func clusterRole(name string, rules ...rbacv1.PolicyRule) rbacv1.ClusterRole {
	return rbacv1.ClusterRole{TypeMeta: rbacType("ClusterRole"), ObjectMeta: metav1.ObjectMeta{Name: name}, Rules: rules}
}

func bindGroup(name, role, group string) rbacv1.ClusterRoleBinding {
	return bind(name, role, rbacv1.Subject{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: group})
}

func bindAccount(name, role string, account corev1.ServiceAccount) rbacv1.ClusterRoleBinding {
	return bind(name, role, rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Name: account.Name, Namespace: account.Namespace})
}

func bind(name, role string, to rbacv1.Subject) rbacv1.ClusterRoleBinding {
	return rbacv1.ClusterRoleBinding{
		TypeMeta:   rbacType("ClusterRoleBinding"),
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{to},
	}
}

func rbacType(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: kind}
}
