package bootstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/pkg/bootstrap/seal"
)

// Role is a kind of machine, which is given secrets of its own.
type Role string

// The roles. A machine may have several.
const (
	Controller Role = "controller"
	Worker     Role = "worker"
	EtcdMember Role = "etcd"
)

// Roles returns all roles.
func Roles() []Role { return []Role{Controller, Worker, EtcdMember} }

// Owners of files on a machine. Names and modes are those of KEP-2568: each
// component runs as a user of its own and can read what it needs itself.
const (
	ownerRoot              = "root"
	ownerEtcd              = "kubeadm-etcd"
	ownerAPIServer         = "kubeadm-kas"
	ownerControllerManager = "kubeadm-kcm"
	ownerScheduler         = "kubeadm-ks"
	groupServiceAccountKey = "kubeadm-sa-key-readers"
)

// component is a directory of a machine, and which files of ours are in it.
type component struct {
	dir, owner string
	pairs      []string          // certificates with their keys, by the names of the tables in profile.go
	files      map[string]string // a file of ours by its name in the directory
}

// components returns what a machine of the role is given, apart from tokens and
// the service-account key. Keys of authorities stay where they were made but one:
// the controller manager signs the certificates of kubelets.
func components(r Role) []component {
	const kubernetes = "/etc/kubernetes/"
	kubelet := component{kubernetes, ownerRoot, nil, map[string]string{"kubeconfig": bootstrapConfig}}
	switch r {
	case Worker:
		return []component{kubelet}
	case EtcdMember:
		return []component{
			{kubernetes + "etcd/", ownerEtcd, []string{"etcd/server", "etcd/peer"}, map[string]string{"ca.crt": "pki/etcd/ca.crt"}},
			{kubernetes + "etcd/", ownerRoot, []string{"etcd/healthcheck-client"}, nil},
		}
	case Controller:
		return []component{
			kubelet,
			{
				kubernetes + "kube-apiserver/", ownerAPIServer,
				[]string{"apiserver", "apiserver-kubelet-client", "apiserver-etcd-client", "front-proxy-client"},
				map[string]string{"ca.crt": "pki/ca.crt", "etcd-ca.crt": "pki/etcd/ca.crt", "front-proxy-ca.crt": "pki/front-proxy-ca.crt", "sa.pub": serviceAccountPub},
			},
			{
				kubernetes + "kube-controller-manager/", ownerControllerManager, []string{kubernetesCA},
				map[string]string{"front-proxy-ca.crt": "pki/front-proxy-ca.crt", "controller-manager.conf": "controller-manager.conf"},
			},
			{kubernetes + "kube-scheduler/", ownerScheduler, nil, map[string]string{"scheduler.conf": "scheduler.conf"}},
			{
				kubernetes + "bootstrap-secrets/", ownerRoot, nil,
				map[string]string{"super-admin.conf": "super-admin.conf", "cluster-info.yaml": clusterInfoFile, "access.yaml": accessFile},
			},
			{kubernetes, ownerRoot, nil, map[string]string{"admin.conf": "admin.conf"}},
		}
	}
	return nil
}

// RoleFiles returns what machines of the role are given of the directory at
// path, ready to be sealed: where each file goes, its owner and its mode.
func RoleFiles(ctx context.Context, path, cluster string, r Role, now time.Time) (*seal.Archive, error) {
	d, err := openDir(ctx, path, now)
	if err != nil {
		return nil, err
	}
	defer d.close()
	a := &seal.Archive{Cluster: cluster, Role: string(r)}
	for _, c := range components(r) {
		for _, name := range c.pairs {
			crt, key := pairOf(name)
			for _, file := range []string{crt, key} {
				if err := d.give(a, file, c.dir+filepath.Base(file), c.owner); err != nil {
					return nil, err
				}
			}
		}
		for to, from := range c.files {
			if err := d.give(a, from, c.dir+to, c.owner); err != nil {
				return nil, err
			}
		}
	}
	if r == Controller {
		if err := d.giveController(a); err != nil {
			return nil, err
		}
	}
	return a, nil
}

// give adds the file from of the directory to the archive as the file to. What
// is public belongs to root, so that no component changes what it is checked by.
func (d *dir) give(a *seal.Archive, from, to, owner string) error {
	mode := secretMode
	if strings.HasSuffix(from, ".crt") || strings.HasSuffix(from, ".pub") || from == clusterInfoFile || from == accessFile {
		mode, owner = publicMode, ownerRoot
	}
	body, err := d.read(from, mode)
	if errors.Is(err, fs.ErrNotExist) {
		return &Differs{Path: from, Why: fmt.Errorf("is not there, and a %s needs it", a.Role)}
	}
	if err != nil {
		return err
	}
	a.Files = append(a.Files, seal.File{Path: to, Mode: mode, Owner: owner, Group: owner, Body: body})
	return nil
}

// giveController adds the one key that two components read, and every valid token.
func (d *dir) giveController(a *seal.Archive) error {
	if err := d.give(a, serviceAccountKey, "/etc/kubernetes/service-account/sa.key", ownerRoot); err != nil {
		return err
	}
	key := &a.Files[len(a.Files)-1]
	key.Group, key.Mode = groupServiceAccountKey, 0o640
	grants, _, err := d.grants()
	if err != nil {
		return err
	}
	for _, g := range grants {
		id := g.Token.ID()
		if err := d.give(a, grantFile(id), "/etc/kubernetes/bootstrap-secrets/"+secretPrefix+id+".yaml", ownerRoot); err != nil {
			return err
		}
	}
	return nil
}

// SealRoles encrypts what each role is given for its recipients, those of the
// cluster file and more, into sealed/ROLE.age of the directory at path. A role
// without a recipient is left out. What is sealed is always written anew: it
// cannot be compared with what is there, which only the recipients can open.
func SealRoles(ctx context.Context, path string, c *Cluster, more map[Role][]seal.Recipient, now time.Time) ([]Step, error) {
	var steps []Step
	for _, role := range Roles() {
		recipients, err := recipientsOf(c.Roles[string(role)], more[role])
		if err != nil {
			return steps, err
		}
		if len(recipients) == 0 {
			continue
		}
		archive, err := RoleFiles(ctx, path, c.Name, role, now)
		if err != nil {
			return steps, err
		}
		sealed, err := seal.Seal(archive, recipients)
		if err != nil {
			return steps, err
		}
		step, err := writeSealed(path, role, sealed)
		if err != nil {
			return steps, err
		}
		steps = append(steps, step)
	}
	return steps, nil
}

func recipientsOf(spec RoleSpec, more []seal.Recipient) ([]seal.Recipient, error) {
	var all []seal.Recipient
	for _, text := range spec.Recipients {
		r, err := seal.ParseRecipient(text)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return append(all, more...), nil
}

func writeSealed(path string, role Role, sealed []byte) (Step, error) {
	if err := privateDir(filepath.Join(path, sealedDir)); err != nil {
		return Step{}, err
	}
	step := Step{Path: filepath.Join(sealedDir, string(role)+".age"), Outcome: Created}
	file := filepath.Join(path, step.Path)
	if _, err := os.Lstat(file); err == nil {
		step.Outcome = Replaced
	}
	return step, atomicfile.WriteBytes(file, publicMode, sealed)
}
