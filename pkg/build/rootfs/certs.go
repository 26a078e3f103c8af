package rootfs

import (
	"bytes"
	"encoding/pem"
	"fmt"
	"path"
	"slices"
	"strings"
)

const (
	certSource = "usr/share/ca-certificates/"
	certDir    = "etc/ssl/certs/"
)

// writeCertificates does what update-ca-certificates(8) does with every
// certificate that the packages bring: the bundle, a link for each one, and the
// links by subject hash that OpenSSL's CApath wants.
func (t *Tree) writeCertificates() error {
	var bundle, conf bytes.Buffer
	conf.WriteString("# The certificates of /etc/ssl/certs, relative to /usr/share/ca-certificates.\n# See update-ca-certificates(8).\n")
	hashes := make(map[string]int)
	for _, p := range t.certificates() {
		data, err := t.read(p)
		if err != nil {
			return err
		}
		name, err := certName(p, data)
		if err != nil {
			return err
		}
		link := strings.NewReplacer(" ", "_", "(", "=", ")", "=", ",", "_").Replace(strings.TrimSuffix(path.Base(p), ".crt")) + ".pem"
		if err := t.putLink(certDir+link, "/"+p); err != nil {
			return err
		}
		hash := fmt.Sprintf("%08x", name)
		if err := t.putLink(fmt.Sprintf("%s%s.%d", certDir, hash, hashes[hash]), link); err != nil {
			return err
		}
		hashes[hash]++
		conf.WriteString(strings.TrimPrefix(p, certSource) + "\n")
		bundle.Write(data)
		if !bytes.HasSuffix(data, []byte("\n")) {
			bundle.WriteByte('\n')
		}
	}
	if bundle.Len() == 0 {
		return nil
	}
	if err := t.putMissing("etc/ca-certificates.conf", 0o644, conf.Bytes()); err != nil {
		return err
	}
	return t.putFile(certDir+"ca-certificates.crt", 0o644, bundle.Bytes())
}

// certificates returns the paths of all certificate files, sorted.
func (t *Tree) certificates() []string {
	var paths []string
	for p := range t.entries {
		if strings.HasPrefix(p, certSource) && strings.HasSuffix(p, ".crt") {
			paths = append(paths, p)
		}
	}
	slices.Sort(paths)
	return paths
}

// certName returns the hash of the subject of the one certificate that a file holds.
func certName(p string, data []byte) (uint32, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return 0, fmt.Errorf("/%s: no certificate in PEM", p)
	}
	hash, err := subjectHash(block.Bytes)
	if err != nil {
		return 0, fmt.Errorf("/%s: %w", p, err)
	}
	return hash, nil
}
