package bootstrap

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	clientcmd "k8s.io/client-go/tools/clientcmd/api/v1"
)

// Init fills the directory at path with everything secret of the cluster, and
// says what it did about each file.
//
// What is there stays: a run that was cut off is finished by the next one. A
// file that is there and does not answer the cluster file any more is a
// [*Differs], unless its name is in renew; see [Renewable]. Before that error,
// nothing is lost: what was made up to then is complete.
func Init(ctx context.Context, path string, c *Cluster, renew []string, now time.Time) ([]Step, error) {
	for _, name := range renew {
		if !slices.Contains(Renewable(), name) {
			return nil, fmt.Errorf("renew %q: want one of %v", name, Renewable())
		}
	}
	d, err := openDir(ctx, path, now)
	if err != nil {
		return nil, err
	}
	defer d.close()
	in := &initialize{dir: d, cluster: c, renew: renew, by: make(map[string]authority)}
	if err := in.run(ctx); err != nil {
		return d.steps, err
	}
	return d.steps, nil
}

// initialize is one run of [Init].
type initialize struct {
	*dir
	cluster *Cluster
	renew   []string
	by      map[string]authority
}

func (in *initialize) run(ctx context.Context) error {
	for _, a := range authorities() {
		if err := in.authority(a); err != nil {
			return err
		}
	}
	if err := in.serviceAccount(); err != nil {
		return err
	}
	for _, p := range in.cluster.certificates() {
		if err := errors.Join(ctx.Err(), in.certificate(p)); err != nil {
			return err
		}
	}
	w := where{name: in.cluster.Name, server: in.cluster.Server(), ca: encodeCertificate(in.by[kubernetesCA].cert)}
	for _, p := range in.cluster.kubeconfigs() {
		if err := in.kubeconfig(p, w); err != nil {
			return err
		}
	}
	access, err := accessManifest()
	if err != nil {
		return err
	}
	if err := in.put(accessFile, publicMode, access); err != nil {
		return err
	}
	return in.firstToken(w)
}

// authority reads or makes a certificate authority. One whose key somebody else
// keeps is fine as long as nothing has to be signed.
func (in *initialize) authority(a authorityProfile) error {
	crt, key := pairOf(a.name)
	cert, err := in.readCertificate(crt)
	switch {
	case err == nil:
		return in.keepAuthority(a, cert)
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	private, err := in.privateKey(key, false)
	if err != nil {
		return err
	}
	cert, err = newAuthority(a.commonName, in.cluster.Name, private, in.now, in.cluster.Lifetimes.CA)
	if err != nil {
		return fmt.Errorf("make %s: %w", crt, err)
	}
	if err := in.write(crt, publicMode, encodeCertificate(cert)); err != nil {
		return err
	}
	in.by[a.name] = authority{cert, private}
	in.did(Step{Path: crt, Outcome: Created, Expires: &cert.NotAfter, SPKIHash: PinOf(cert).String()})
	return nil
}

func (in *initialize) keepAuthority(a authorityProfile, cert *x509.Certificate) error {
	crt, key := pairOf(a.name)
	var private crypto.Signer
	body, err := in.read(key, secretMode)
	if err == nil {
		if private, err = parseKey(body); err == nil {
			err = checkPair(cert, private)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // somebody else keeps it
	}
	if err == nil && (!cert.IsCA || !in.now.Before(cert.NotAfter)) {
		err = fmt.Errorf("no certificate authority, or expired at %s", cert.NotAfter.Format(time.RFC3339))
	}
	if err != nil {
		return differs(crt, err, "")
	}
	in.by[a.name] = authority{cert, private}
	in.did(Step{Path: crt, Outcome: Kept, Expires: &cert.NotAfter, SPKIHash: PinOf(cert).String()})
	return nil
}

// serviceAccount reads or makes the key that signs the tokens of service
// accounts. Its public half follows from it; one that is there already is never
// given another key.
func (in *initialize) serviceAccount() error {
	was, err := in.read(serviceAccountPub, publicMode)
	if err == nil {
		_, err = in.read(serviceAccountKey, secretMode)
		if err != nil {
			return differs(serviceAccountPub, err, "")
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	private, err := in.privateKey(serviceAccountKey, false)
	if err != nil {
		return err
	}
	public, err := encodePublicKey(private.Public())
	if err != nil {
		return err
	}
	if was != nil && !bytes.Equal(was, public) {
		return differs(serviceAccountPub, errors.New("is not of the key beside it"), "")
	}
	return in.put(serviceAccountPub, publicMode, public)
}

// certificate keeps, finishes or makes one certificate and its key.
func (in *initialize) certificate(p profile) error {
	crt, key := pairOf(p.name)
	by := in.by[p.ca]
	renew := slices.Contains(in.renew, p.name)
	cert, err := in.readCertificate(crt)
	if errors.Is(err, fs.ErrNotExist) {
		renew = false // there is nothing to renew
	}
	if err == nil && !renew {
		if err := in.checkKept(p, cert); err != nil {
			return differs(crt, err, p.name)
		}
		in.did(Step{Path: crt, Outcome: Kept, Expires: &cert.NotAfter})
		return nil
	}
	if err != nil && !renew && !errors.Is(err, fs.ErrNotExist) {
		return differs(crt, err, p.name)
	}
	if renew { // a key without a certificate is what a run that is cut off leaves, and what the next one finishes
		if err := in.remove(crt); err != nil {
			return err
		}
	}
	private, err := in.privateKey(key, renew)
	if err != nil {
		return err
	}
	if cert, err = by.issue(p, private.Public(), in.now); err != nil {
		return fmt.Errorf("issue %s: %w", crt, err)
	}
	if err := in.write(crt, publicMode, encodeCertificate(cert)); err != nil {
		return err
	}
	in.did(Step{Path: crt, Outcome: outcomeOf(renew), Expires: &cert.NotAfter})
	return nil
}

// checkKept reports why a certificate that is there, or its key, cannot stay.
func (in *initialize) checkKept(p profile, cert *x509.Certificate) error {
	_, key := pairOf(p.name)
	body, err := in.read(key, secretMode)
	if err != nil {
		return err
	}
	private, err := parseKey(body)
	if err != nil {
		return err
	}
	if err := checkPair(cert, private); err != nil {
		return err
	}
	return in.by[p.ca].fits(p, cert, in.now)
}

// privateKey reads the key, or makes one when there is none or a new one is asked for.
func (in *initialize) privateKey(name string, renew bool) (crypto.Signer, error) {
	body, err := in.read(name, secretMode)
	if err == nil && !renew {
		private, err := parseKey(body)
		if err != nil {
			return nil, differs(name, err, "")
		}
		in.did(Step{Path: name, Outcome: Kept})
		return private, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !renew {
		return nil, err
	}
	private, err := algorithms[in.cluster.EncryptionAlgorithm]()
	if err != nil {
		return nil, fmt.Errorf("make %s: %w", name, err)
	}
	text, err := encodeKey(private)
	if err != nil {
		return nil, err
	}
	if err := in.write(name, secretMode, text); err != nil {
		return nil, err
	}
	in.did(Step{Path: name, Outcome: outcomeOf(renew)})
	return private, nil
}

// kubeconfig keeps or makes a kubeconfig with a client certificate in it.
func (in *initialize) kubeconfig(p profile, w where) error {
	name := p.name + ".conf"
	renew := slices.Contains(in.renew, p.name)
	was, err := in.read(name, secretMode)
	if errors.Is(err, fs.ErrNotExist) {
		renew = false
	}
	if err == nil && !renew {
		cert, err := in.checkKeptConfig(p, w, was)
		if err != nil {
			return differs(name, err, p.name)
		}
		in.did(Step{Path: name, Outcome: Kept, Expires: &cert.NotAfter})
		return nil
	}
	if err != nil && !renew && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	private, err := algorithms[in.cluster.EncryptionAlgorithm]()
	if err != nil {
		return fmt.Errorf("make %s: %w", name, err)
	}
	cert, err := in.by[p.ca].issue(p, private.Public(), in.now)
	if err != nil {
		return fmt.Errorf("issue %s: %w", name, err)
	}
	key, err := encodeKey(private)
	if err != nil {
		return err
	}
	body, err := w.config(clientcmd.AuthInfo{ClientCertificateData: encodeCertificate(cert), ClientKeyData: key})
	if err != nil {
		return err
	}
	if err := in.write(name, secretMode, body); err != nil {
		return err
	}
	in.did(Step{Path: name, Outcome: outcomeOf(renew), Expires: &cert.NotAfter})
	return nil
}

// checkKeptConfig reports why a kubeconfig that is there cannot stay.
func (in *initialize) checkKeptConfig(p profile, w where, body []byte) (*x509.Certificate, error) {
	got, who, err := parseConfig(body, 1)
	if err != nil {
		return nil, err
	}
	if got.server != w.server || string(got.ca) != string(w.ca) {
		return nil, fmt.Errorf("got another server or certificate authority, want %s and this one", w.server)
	}
	cert, err := parseCertificate(who.ClientCertificateData)
	if err != nil {
		return nil, err
	}
	private, err := parseKey(who.ClientKeyData)
	if err != nil {
		return nil, err
	}
	if err := checkPair(cert, private); err != nil {
		return nil, err
	}
	return cert, in.by[p.ca].fits(p, cert, in.now)
}

func (in *initialize) readCertificate(name string) (*x509.Certificate, error) {
	body, err := in.read(name, publicMode)
	if err != nil {
		return nil, err
	}
	cert, err := parseCertificate(body)
	if err != nil {
		return nil, &Differs{Path: name, Why: err}
	}
	return cert, nil
}

// pairOf returns the files of a certificate and of its key.
func pairOf(name string) (crt, key string) { return "pki/" + name + ".crt", "pki/" + name + ".key" }

func outcomeOf(renewed bool) Outcome {
	if renewed {
		return Replaced
	}
	return Created
}

// differs says of a file that it cannot stay, once.
func differs(name string, err error, renew string) error {
	var was *Differs
	if errors.As(err, &was) {
		return &Differs{Path: was.Path, Why: was.Why, Renew: renew}
	}
	return &Differs{Path: name, Why: err, Renew: renew}
}
