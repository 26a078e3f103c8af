package bootstrap

import (
	"crypto/ecdsa"
	"crypto/x509"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// pool is a pool of one certificate authority of the directory.
func pool(t testing.TB, dir, ca string) *x509.CertPool {
	t.Helper()
	p := x509.NewCertPool()
	if !p.AppendCertsFromPEM(read(t, dir, "pki/"+ca+".crt")) {
		t.Fatalf("no certificate in %s", ca)
	}
	return p
}

// leaf is a certificate of the directory, of a file or of a kubeconfig.
func leaf(t testing.TB, dir, name string) *x509.Certificate {
	t.Helper()
	var text []byte
	if strings.HasSuffix(name, ".conf") {
		_, who, err := parseConfig(read(t, dir, name), 1)
		if err != nil {
			t.Fatal(err)
		}
		text = who.ClientCertificateData
	} else {
		text = read(t, dir, "pki/"+name+".crt")
	}
	cert, err := parseCertificate(text)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Every certificate verifies for what it is for, and for nothing else.
func TestEachCertificateVerifiesForItsUseAlone(t *testing.T) {
	dir := initialized(t, parsed(t))
	cas := []string{kubernetesCA, etcdCA, frontProxyCA}
	const client, server = x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth
	for name, tt := range map[string]struct {
		ca     string
		usages []x509.ExtKeyUsage
		group  string
		user   string
	}{
		"apiserver":                {kubernetesCA, []x509.ExtKeyUsage{server}, "", "kube-apiserver"},
		"apiserver-kubelet-client": {kubernetesCA, []x509.ExtKeyUsage{client}, "imgctl:kubelet-api-clients", "kube-apiserver-kubelet-client"},
		"apiserver-etcd-client":    {etcdCA, []x509.ExtKeyUsage{client}, "", "kube-apiserver-etcd-client"},
		"etcd/server":              {etcdCA, []x509.ExtKeyUsage{client, server}, "", "kube-etcd-server"},
		"etcd/peer":                {etcdCA, []x509.ExtKeyUsage{client, server}, "", "kube-etcd-peer"},
		"etcd/healthcheck-client":  {etcdCA, []x509.ExtKeyUsage{client}, "", "kube-etcd-healthcheck-client"},
		"front-proxy-client":       {frontProxyCA, []x509.ExtKeyUsage{client}, "", "front-proxy-client"},
		"admin.conf":               {kubernetesCA, []x509.ExtKeyUsage{client}, "kubeadm:cluster-admins", "kubernetes-admin"},
		"super-admin.conf":         {kubernetesCA, []x509.ExtKeyUsage{client}, "system:masters", "kubernetes-super-admin"},
		"controller-manager.conf":  {kubernetesCA, []x509.ExtKeyUsage{client}, "", "system:kube-controller-manager"},
		"scheduler.conf":           {kubernetesCA, []x509.ExtKeyUsage{client}, "", "system:kube-scheduler"},
	} {
		t.Run(name, func(t *testing.T) {
			cert := leaf(t, dir, name)
			for _, ca := range cas {
				for _, usage := range []x509.ExtKeyUsage{client, server, x509.ExtKeyUsageCodeSigning} {
					_, err := cert.Verify(x509.VerifyOptions{Roots: pool(t, dir, ca), KeyUsages: []x509.ExtKeyUsage{usage}, CurrentTime: noon})
					if want := ca == tt.ca && slices.Contains(tt.usages, usage); (err == nil) != want {
						t.Errorf("by %s for usage %v: got %v, want it to verify: %t", ca, usage, err, want)
					}
				}
			}
			if got := strings.Join(cert.Subject.Organization, ","); got != tt.group || cert.Subject.CommonName != tt.user {
				t.Errorf("got CN=%s O=%s, want CN=%s O=%s", cert.Subject.CommonName, got, tt.user, tt.group)
			}
			if cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage != x509.KeyUsageDigitalSignature {
				t.Errorf("got a certificate that may do more than sign a handshake: %v", cert.KeyUsage)
			}
		})
	}
}

func TestOnlyTheSuperAdminIsAMaster(t *testing.T) {
	dir := initialized(t, parsed(t))
	for _, p := range slices.Concat(parsed(t).certificates(), parsed(t).kubeconfigs()) {
		if (p.organization == "system:masters") != (p.name == "super-admin") {
			t.Errorf("%s: organization %q", p.name, p.organization)
		}
	}
	if got := leaf(t, dir, "super-admin.conf").NotAfter; !got.Equal(noon.Add(12 * time.Hour)) {
		t.Errorf("super-admin ends at %s, want 12h from %s", got, noon)
	}
}

func TestServersVerifyByEveryNameTheyAreCalled(t *testing.T) {
	dir := initialized(t, parsed(t))
	for name, tt := range map[string]struct {
		ca        string
		good, bad []string
	}{
		"apiserver": {kubernetesCA,
			[]string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local", "api.example.com", "10.3.0.1", "192.0.2.10", "node1.example.com"},
			[]string{"localhost", "example.com", "x.api.example.com", "10.3.0.2", "127.0.0.1"}},
		"etcd/server": {etcdCA, []string{"node1.example.com", "localhost", "127.0.0.1", "::1"}, []string{"node2.example.com", "api.example.com", "192.0.2.10"}},
		"etcd/peer":   {etcdCA, []string{"node1.example.com", "localhost"}, []string{"kubernetes"}},
	} {
		cert := leaf(t, dir, name)
		verify := func(host string) error {
			if net.ParseIP(host) != nil {
				return cert.VerifyHostname(host)
			}
			_, err := cert.Verify(x509.VerifyOptions{Roots: pool(t, dir, tt.ca), DNSName: host, CurrentTime: noon})
			return err
		}
		for _, host := range tt.good {
			if err := verify(host); err != nil {
				t.Errorf("%s: %s: %v", name, host, err)
			}
		}
		for _, host := range tt.bad {
			if verify(host) == nil {
				t.Errorf("%s: verifies for %s", name, host)
			}
		}
	}
}

func TestCertificatesLiveAsLongAsStatedAndNoLongerThanTheirCA(t *testing.T) {
	dir := initialized(t, parsed(t))
	for name, want := range map[string]time.Duration{kubernetesCA: 43800 * time.Hour, etcdCA: 43800 * time.Hour, "apiserver": 4380 * time.Hour, "admin.conf": 4380 * time.Hour} {
		cert := leaf(t, dir, name)
		if !cert.NotAfter.Equal(noon.Add(want)) || !cert.NotBefore.Equal(noon.Add(-5*time.Minute)) {
			t.Errorf("%s: valid from %s to %s, want 5m before noon and %s after", name, cert.NotBefore, cert.NotAfter, want)
		}
	}
	// A year before the authority ends, a certificate for half a year and one for two.
	later := noon.Add(43800*time.Hour - 365*24*time.Hour)
	c := parsed(t, "certificate: 4380h", "certificate: 17520h")
	if _, err := Init(t.Context(), dir, c, Renewable(), later); err != nil {
		t.Fatal(err)
	}
	if got, want := leaf(t, dir, "apiserver").NotAfter, leaf(t, dir, kubernetesCA).NotAfter; !got.Equal(want) {
		t.Errorf("ends at %s, want with its CA at %s", got, want)
	}
}

func TestAuthoritiesVouchForNoOther(t *testing.T) {
	dir := initialized(t, parsed(t))
	for _, ca := range []string{kubernetesCA, etcdCA, frontProxyCA} {
		cert := leaf(t, dir, ca)
		if !cert.IsCA || !cert.MaxPathLenZero || cert.KeyUsage&x509.KeyUsageCertSign == 0 || len(cert.ExtKeyUsage) > 0 {
			t.Errorf("%s: %+v", ca, cert)
		}
		if _, ok := cert.PublicKey.(*ecdsa.PublicKey); !ok {
			t.Errorf("%s: got a key %T, want ECDSA", ca, cert.PublicKey)
		}
	}
}

func TestRSAIsUsedWhenItIsAskedFor(t *testing.T) {
	dir := initialized(t, parsed(t, "lifetimes:", "encryptionAlgorithm: RSA-2048\nlifetimes:"))
	if got := leaf(t, dir, "apiserver"); got.PublicKeyAlgorithm != x509.RSA || got.KeyUsage&x509.KeyUsageKeyEncipherment == 0 {
		t.Errorf("got %v with usage %v, want RSA", got.PublicKeyAlgorithm, got.KeyUsage)
	}
}
