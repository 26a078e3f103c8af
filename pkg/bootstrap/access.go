package bootstrap

import (
	"bytes"

	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/imgctl/imgctl/pkg/bundle/plane"
)

// accessManifest gives the groups of the certificates that are made here their
// rights, and lets a machine that is nobody yet read cluster-info. It is applied
// with super-admin.conf, once; admin.conf has its rights from then on.
func accessManifest() ([]byte, error) {
	var all [][]byte
	for _, object := range append([]any{
		bindGroup(adminGroup, "cluster-admin", adminGroup),
		bindGroup(kubeletAPIGroup, "system:kubelet-api-admin", kubeletAPIGroup),
	}, plane.ClusterInfoReader()...) {
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
