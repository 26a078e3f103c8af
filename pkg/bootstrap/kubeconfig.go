package bootstrap

import (
	"errors"
	"fmt"
	"reflect"

	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
	"sigs.k8s.io/yaml"
)

// kubeconfigUser is the name of the one user in a kubeconfig that is made here.
const kubeconfigUser = "user"

// where is how a cluster is called, reached and recognised.
type where struct {
	name   string
	server string
	ca     []byte // PEM
}

// clusterOnly is the kubeconfig in cluster-info: where, and nobody. The cluster
// has no name, as kubeadm writes it and its join expects it.
func (w where) clusterOnly() ([]byte, error) {
	return yaml.Marshal(clientcmd.Config{
		APIVersion: "v1", Kind: "Config",
		Clusters: []clientcmd.NamedCluster{{Cluster: clientcmd.Cluster{Server: w.server, CertificateAuthorityData: w.ca}}},
	})
}

// config is a kubeconfig for one user.
func (w where) config(who clientcmd.AuthInfo) ([]byte, error) {
	context := kubeconfigUser + "@" + w.name
	return yaml.Marshal(clientcmd.Config{
		APIVersion: "v1", Kind: "Config",
		Clusters:       []clientcmd.NamedCluster{{Name: w.name, Cluster: clientcmd.Cluster{Server: w.server, CertificateAuthorityData: w.ca}}},
		AuthInfos:      []clientcmd.NamedAuthInfo{{Name: kubeconfigUser, AuthInfo: who}},
		Contexts:       []clientcmd.NamedContext{{Name: context, Context: clientcmd.Context{Cluster: w.name, AuthInfo: kubeconfigUser}}},
		CurrentContext: context,
	})
}

// bootstrap is the kubeconfig by which a kubelet asks for its certificate.
func (w where) bootstrap(t Token) ([]byte, error) {
	return w.config(clientcmd.AuthInfo{Token: t.Reveal()})
}

// parseConfig reads a kubeconfig of one cluster, and of one user unless nobody
// is expected in it. Whatever it says besides that could lead elsewhere, such as
// a proxy or a TLS name, is refused. No error repeats what is in it.
func parseConfig(data []byte, users int) (where, clientcmd.AuthInfo, error) {
	var c clientcmd.Config
	var who clientcmd.AuthInfo
	if err := yaml.UnmarshalStrict(data, &c); err != nil {
		return where{}, who, errors.New("kubeconfig: not understood")
	}
	if c.APIVersion != "v1" || c.Kind != "Config" {
		return where{}, who, fmt.Errorf("kubeconfig: got kind %q of %q, want Config of v1", c.Kind, c.APIVersion)
	}
	if len(c.Clusters) != 1 {
		return where{}, who, fmt.Errorf("kubeconfig: got %d clusters, want one", len(c.Clusters))
	}
	if len(c.AuthInfos) != users || len(c.Contexts) != users || (c.CurrentContext != "") != (users > 0) || len(c.Extensions) > 0 {
		return where{}, who, fmt.Errorf("kubeconfig: got %d users and %d contexts, want %d", len(c.AuthInfos), len(c.Contexts), users)
	}
	cluster := c.Clusters[0].Cluster
	w := where{name: c.Clusters[0].Name, server: cluster.Server, ca: cluster.CertificateAuthorityData}
	if !reflect.DeepEqual(cluster, clientcmd.Cluster{Server: w.server, CertificateAuthorityData: w.ca}) {
		return where{}, who, errors.New("kubeconfig: the cluster has more than a server and the data of its CA")
	}
	if users > 0 {
		who = c.AuthInfos[0].AuthInfo
	}
	return w, who, nil
}
