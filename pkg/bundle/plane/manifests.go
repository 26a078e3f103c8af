package plane

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

// Manifests returns what a new cluster is given, by file name, each a list of
// documents: the [Rights] of machines, the cluster's DNS, kube-proxy unless the
// network does its work, and the network of pods if it is one that is known here.
func Manifests(c *Cluster) (Files, error) {
	if err := c.check(); err != nil {
		return nil, err
	}
	objects := rights(c.KubeadmNames)
	objects["coredns"] = coreDNS(c)
	var err error
	if c.CNI == "cilium" {
		objects["cilium"] = cilium(c)
	} else if objects["kube-proxy"], err = kubeProxy(c); err != nil {
		return nil, fmt.Errorf("kube-proxy.yaml: %w", err)
	}
	if c.CNI == "flannel" {
		if objects["flannel"], err = flannel(c); err != nil {
			return nil, fmt.Errorf("flannel.yaml: %w", err)
		}
	}
	return marshal(objects)
}

// Rights returns the rights of machines that join and leave, by file name. With
// kubeadm, they have the names and groups of kubeadm's, so that a cluster that
// has those has them once.
func Rights(kubeadm bool) (Files, error) { return marshal(rights(kubeadm)) }

func rights(kubeadm bool) map[string][]any {
	objects := tlsBootstrap(kubeadm)
	objects["cluster-info-reader"] = ClusterInfoReader()
	objects["kubelet-delete"] = kubeletDelete()
	return objects
}

func marshal(objects map[string][]any) (Files, error) {
	files := make(Files)
	for name, list := range objects {
		body, err := documents(list)
		if err != nil {
			return nil, fmt.Errorf("%s.yaml: %w", name, err)
		}
		files[name+".yaml"] = body
	}
	return files, nil
}

func documents(objects []any) ([]byte, error) {
	var all [][]byte
	for _, o := range objects {
		text, err := document(o)
		if err != nil {
			return nil, err
		}
		all = append(all, text)
	}
	return bytes.Join(all, []byte("---\n")), nil
}

// document leaves the status out, which the types write though nobody set it: it
// is the cluster's to say, and "kubectl apply" would find that it differs.
func document(object any) ([]byte, error) {
	text, err := json.Marshal(object)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(text, &fields); err != nil {
		return nil, err
	}
	delete(fields, "status")
	return yaml.Marshal(fields)
}

func coreType(kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: "v1", Kind: kind} }

func account(namespace, name string) corev1.ServiceAccount {
	return corev1.ServiceAccount{TypeMeta: coreType("ServiceAccount"), ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
}

func configMap(namespace, name string, data map[string]string) corev1.ConfigMap {
	return corev1.ConfigMap{TypeMeta: coreType("ConfigMap"), ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, Data: data}
}

// daemonSet runs the pod on every node, whatever its taints: without network a
// node is never ready.
func daemonSet(namespace, name string, pod corev1.PodSpec) appsv1.DaemonSet {
	labels := map[string]string{"k8s-app": name}
	pod.HostNetwork = true
	pod.PriorityClassName = "system-node-critical"
	pod.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	pod.NodeSelector = map[string]string{corev1.LabelOSStable: "linux"}
	oneAtATime := intstr.FromInt32(1)
	return appsv1.DaemonSet{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "DaemonSet"},
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: labels},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{
				Type: appsv1.RollingUpdateDaemonSetStrategyType, RollingUpdate: &appsv1.RollingUpdateDaemonSet{MaxUnavailable: &oneAtATime},
			},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: pod},
		},
	}
}

// endpoint tells client-go where the API server is in place of the Service's
// address, which kube-proxy and the network of pods are there to make work.
func (c *Cluster) endpoint() []corev1.EnvVar {
	return []corev1.EnvVar{
		{Name: "KUBERNETES_SERVICE_HOST", Value: c.Host},
		{Name: "KUBERNETES_SERVICE_PORT", Value: strconv.Itoa(int(c.Port))},
	}
}

// hostPath is a volume of a path of the host.
func hostPath(name, path string, kind corev1.HostPathType) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}}
}

func configVolume(name, from string) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: from}},
	}}
}
