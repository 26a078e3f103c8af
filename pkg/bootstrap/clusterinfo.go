package bootstrap

import (
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// Name and keys of cluster-info, which everybody may read.
const (
	clusterInfoNamespace = "kube-public"
	clusterInfoName      = "cluster-info"
	clusterInfoConfig    = "kubeconfig"
	clusterInfoJWS       = "jws-kubeconfig-" // and the id of a token
)

// maxClusterInfo is the most bytes that a cluster-info may have.
const maxClusterInfo = 1 << 20

// ClusterInfo says where the API server of a cluster is and by which authority
// it is recognised, signed under bootstrap tokens.
type ClusterInfo struct {
	Kubeconfig []byte            // the exact bytes that are signed
	Signatures map[string]string // detached JWS by the id of the token
}

// Sign adds the signature of the token, in place of an older one.
func (c *ClusterInfo) Sign(t Token) {
	if c.Signatures == nil {
		c.Signatures = make(map[string]string)
	}
	c.Signatures[t.ID()] = t.sign(c.Kubeconfig)
}

// Verify checks the token's signature. The error is a [*Refusal] for [Unsigned]
// or [BadSignature].
func (c *ClusterInfo) Verify(t Token) error {
	jws, ok := c.Signatures[t.ID()]
	if !ok {
		return refuse(Unsigned, "cluster-info has no signature under token %s, but %d others", t.ID(), len(c.Signatures))
	}
	if !t.verifies(jws, c.Kubeconfig) {
		return refuse(BadSignature, "signature of cluster-info under token %s does not verify", t.ID())
	}
	return nil
}

// Check returns the server that cluster-info names and the pins of its
// authorities, and requires each of them to be among pins unless there are none
// to compare with. The error is a [*Refusal].
func (c *ClusterInfo) Check(pins []Pin) (server string, found []Pin, err error) {
	w, certs, err := c.where()
	if err != nil {
		return "", nil, err
	}
	for _, cert := range certs {
		found = append(found, PinOf(cert))
	}
	if len(pins) == 0 {
		return w.server, found, nil
	}
	return w.server, found, checkPins(certs, pins)
}

// where returns what cluster-info says, which must be that and nothing else. The
// error is a [*Refusal] for [WrongContent].
func (c *ClusterInfo) where() (where, []*x509.Certificate, error) {
	w, _, err := parseConfig(c.Kubeconfig, 0)
	if err != nil {
		return where{}, nil, refuse(WrongContent, "cluster-info: %w", err)
	}
	if u, err := url.Parse(w.server); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "" {
		return where{}, nil, refuse(WrongContent, "cluster-info: server: got %.200q, want https://HOST:PORT", w.server)
	}
	certs, err := parseCertificates(w.ca)
	if err != nil {
		return where{}, nil, refuse(WrongContent, "cluster-info: certificate authority: %w", err)
	}
	return w, certs, nil
}

// Manifest returns the ConfigMap of cluster-info as YAML.
func (c *ClusterInfo) Manifest() ([]byte, error) {
	data := map[string]string{clusterInfoConfig: string(c.Kubeconfig)}
	for id, jws := range c.Signatures {
		data[clusterInfoJWS+id] = jws
	}
	return yaml.Marshal(corev1.ConfigMap{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "ConfigMap"},
		ObjectMeta: metav1.ObjectMeta{Name: clusterInfoName, Namespace: clusterInfoNamespace},
		Data:       data,
	})
}

// ParseClusterInfo reads the ConfigMap in YAML, or in JSON as an API server answers.
func ParseClusterInfo(data []byte) (*ClusterInfo, error) {
	if len(data) > maxClusterInfo {
		return nil, fmt.Errorf("cluster-info: larger than %d bytes", maxClusterInfo)
	}
	document, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		return nil, errors.New("cluster-info: neither YAML nor JSON")
	}
	var m corev1.ConfigMap
	if err := json.Unmarshal(document, &m); err != nil {
		return nil, errors.New("cluster-info: no ConfigMap")
	}
	if m.Kind != "ConfigMap" || m.Namespace != clusterInfoNamespace || m.Name != clusterInfoName {
		return nil, fmt.Errorf("cluster-info: got %.40s %.80q, want ConfigMap %s/%s", m.Kind, m.Namespace+"/"+m.Name, clusterInfoNamespace, clusterInfoName)
	}
	c := &ClusterInfo{Kubeconfig: []byte(m.Data[clusterInfoConfig]), Signatures: make(map[string]string)}
	if len(c.Kubeconfig) == 0 {
		return nil, fmt.Errorf("cluster-info: no %s in it", clusterInfoConfig)
	}
	for _, key := range slices.Sorted(maps.Keys(m.Data)) {
		if id, ok := strings.CutPrefix(key, clusterInfoJWS); ok && tokenIDForm.MatchString(id) {
			c.Signatures[id] = m.Data[key]
		}
	}
	return c, nil
}
