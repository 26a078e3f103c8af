// Package bootstrap makes what is secret in a cluster and belongs to that
// cluster alone: its certificate authorities and certificates, its
// service-account key, its kubeconfigs, its bootstrap tokens, and the
// cluster-info by which a machine that knows a token finds the right cluster.
// None of it is ever part of a public bundle.
//
// [Load] reads a cluster file and [Init] fills a directory from it. The
// directory is laid out as kubeadm lays out /etc/kubernetes, and is its own
// record: a second run keeps what is there, goes on where the first was cut off,
// and refuses what no longer answers the cluster file. [CreateToken] and
// [RotateToken] change the tokens in it, and [RoleFiles] says which of its files
// each kind of machine is given, and under which owner; package seal encrypts
// them. [Discoverer] is the other side: what a joining machine does.
//
// Times come from the caller's clock, randomness from crypto/rand.
package bootstrap

import (
	"io/fs"
	"time"
)

// skew is how much earlier than now a certificate starts to be valid, for
// machines whose clock is behind. Kubernetes' own signer allows as much.
const skew = 5 * time.Minute

// Permissions in the directory. Whether a file is secret is decided by its kind
// alone, never by the umask.
const (
	secretMode fs.FileMode = 0o600
	publicMode fs.FileMode = 0o644
	dirMode    fs.FileMode = 0o700
)

// Names of the files in the directory, apart from the certificates and
// kubeconfigs of the tables in profile.go.
const (
	serviceAccountKey = "pki/sa.key"
	serviceAccountPub = "pki/sa.pub"
	bootstrapConfig   = "bootstrap-kubelet.conf"
	tokensDir         = "tokens"
	sealedDir         = "sealed"
	clusterInfoFile   = "manifests/cluster-info.yaml"
	accessFile        = "manifests/access.yaml"
	lockFile          = ".lock"
)

// Outcome is what was done about one file.
type Outcome string

// What can become of a file.
const (
	Created  Outcome = "created"
	Kept     Outcome = "kept"
	Replaced Outcome = "replaced" // because that was asked for
	Removed  Outcome = "removed"
)

// Step is one file and what was done about it. It holds no secret.
type Step struct {
	Path     string     `json:"path"` // below the directory
	Outcome  Outcome    `json:"outcome"`
	Expires  *time.Time `json:"expires,omitempty"`  // of the certificate or token in it
	SPKIHash string     `json:"spkiHash,omitempty"` // of a certificate authority: what discovery pins
}
