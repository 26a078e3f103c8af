package bootstrap

import (
	"bytes"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// clusterInfoReader is the role by which everybody reads cluster-info; kubeadm's name.
const clusterInfoReader = "kubeadm:bootstrap-signer-clusterinfo"

// accessManifest gives the groups of the certificates that are made here their
// rights, and lets a machine that is nobody yet read cluster-info. It is applied
// with super-admin.conf, once; admin.conf has its rights from then on.
func accessManifest() ([]byte, error) {
	var all [][]byte
	for _, object := range []any{
		bindGroup(adminGroup, "cluster-admin", adminGroup),
		bindGroup(kubeletAPIGroup, "system:kubelet-api-admin", kubeletAPIGroup),
		rbacv1.Role{
			TypeMeta:   rbacType("Role"),
			ObjectMeta: metav1.ObjectMeta{Name: clusterInfoReader, Namespace: clusterInfoNamespace},
			Rules:      []rbacv1.PolicyRule{{APIGroups: []string{""}, Resources: []string{"configmaps"}, ResourceNames: []string{clusterInfoName}, Verbs: []string{"get"}}},
		},
		rbacv1.RoleBinding{
			TypeMeta:   rbacType("RoleBinding"),
			ObjectMeta: metav1.ObjectMeta{Name: clusterInfoReader, Namespace: clusterInfoNamespace},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: clusterInfoReader},
			Subjects:   []rbacv1.Subject{{Kind: rbacv1.UserKind, APIGroup: rbacv1.GroupName, Name: "system:anonymous"}},
		},
	} {
		text, err := yaml.Marshal(object)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return bytes.Join(all, []byte("---\n")), nil
}

func bindGroup(name, role, group string) rbacv1.ClusterRoleBinding {
	return rbacv1.ClusterRoleBinding{
		TypeMeta:   rbacType("ClusterRoleBinding"),
		ObjectMeta: metav1.ObjectMeta{Name: name},
		RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
		Subjects:   []rbacv1.Subject{{Kind: rbacv1.GroupKind, APIGroup: rbacv1.GroupName, Name: group}},
	}
}

func rbacType(kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: rbacv1.SchemeGroupVersion.String(), Kind: kind}
}
