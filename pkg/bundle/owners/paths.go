package owners

import (
	"io/fs"
	"path"
	"slices"
)

// Role is a kind of machine. A machine may have several.
type Role string

// The roles.
const (
	Controller Role = "controller"
	Worker     Role = "worker"
	EtcdMember Role = "etcd"
)

// Roles returns all roles.
func Roles() []Role { return []Role{Controller, Worker, EtcdMember} }

// Directories of the table, and files in them that are named elsewhere.
const (
	kubernetes        = "/etc/kubernetes"
	Config            = kubernetes + "/config"
	EtcdSecrets       = kubernetes + "/etcd"
	APIServerSecrets  = kubernetes + "/kube-apiserver"
	ManagerSecrets    = kubernetes + "/kube-controller-manager"
	SchedulerSecrets  = kubernetes + "/kube-scheduler"
	ServiceAccountDir = kubernetes + "/service-account"
	StaticPods        = kubernetes + "/manifests"
	EtcdData          = "/var/lib/etcd"
	AuditLog          = "/var/log/kube-apiserver"

	bootstrapSecrets = kubernetes + "/bootstrap-secrets"
)

// TokenSecrets is the row of bootstrap tokens: a pattern of package path.
const TokenSecrets = bootstrapSecrets + "/bootstrap-token-*.yaml"

// Modes of the table.
const (
	dirOpen    fs.FileMode = fs.ModeDir | 0o755
	dirGroup   fs.FileMode = fs.ModeDir | 0o750 // a component reads what is in it and changes none of it
	dirPrivate fs.FileMode = fs.ModeDir | 0o700
	public     fs.FileMode = 0o644
	secret     fs.FileMode = 0o600
	shared     fs.FileMode = 0o640
)

// containerFile is the SELinux type of what containers read and write. Its level
// is s0, without categories: each of several containers may.
const containerFile = "container_file_t"

// Path is a row of the table.
type Path struct {
	Path         string      // absolute; the last segment may be a pattern of package path
	Mode         fs.FileMode // with fs.ModeDir for a directory
	Owner, Group string
	Type         string // of SELinux
	Roles        []Role // the machines that have it
	// From is the file of "imgctl bootstrap init" that it is a copy of, or empty.
	From string
	// Deep tells that all that is in the directory is the owner's, too.
	Deep bool
	Why  string
}

// Secret tells whether not everybody on the machine may read it.
func (p Path) Secret() bool { return p.Mode.Perm()&0o004 == 0 }

// Paths returns all rows, directories before what is in them.
func (t *Table) Paths() []Path {
	all := slices.Concat(directories(), etcdFiles(), apiServerFiles(), otherFiles())
	for i := range all {
		all[i].Type = containerFile
	}
	return all
}

// Of returns the rows of machines that have all of these roles, each once.
func (t *Table) Of(roles ...Role) []Path {
	return slices.DeleteFunc(t.Paths(), func(p Path) bool {
		return !slices.ContainsFunc(p.Roles, func(r Role) bool { return slices.Contains(roles, r) })
	})
}

// Find returns the row of a path.
func (t *Table) Find(name string) (Path, bool) {
	for _, p := range t.Paths() {
		if ok, _ := path.Match(p.Path, name); ok {
			return p, true
		}
	}
	return Path{}, false
}

func everywhere() []Role { return Roles() }

func controllers() []Role { return []Role{Controller} }

func members() []Role { return []Role{EtcdMember} }

func directories() []Path {
	return []Path{
		{Path: kubernetes, Mode: dirOpen, Owner: root, Group: root, Roles: everywhere(), Why: "the kubelet and every component find theirs in it"},
		{Path: StaticPods, Mode: dirPrivate, Owner: root, Group: root, Roles: everywhere(), Why: "whoever writes here runs anything as root"},
		{Path: Config, Mode: dirOpen, Owner: root, Group: root, Roles: controllers(), Why: "configuration of components, nothing of it secret"},
		{Path: EtcdSecrets, Mode: dirGroup, Owner: root, Group: userEtcd, Roles: members(), Why: "the secrets of etcd"},
		{Path: APIServerSecrets, Mode: dirGroup, Owner: root, Group: userAPIServer, Roles: controllers(), Why: "the secrets of the API server"},
		{Path: ManagerSecrets, Mode: dirGroup, Owner: root, Group: userControllerManager, Roles: controllers(), Why: "the secrets of the controller manager"},
		{Path: SchedulerSecrets, Mode: dirGroup, Owner: root, Group: userScheduler, Roles: controllers(), Why: "the secrets of the scheduler"},
		{Path: ServiceAccountDir, Mode: dirGroup, Owner: root, Group: groupKeyReaders, Roles: controllers(), Why: "the one secret that two components share"},
		{Path: bootstrapSecrets, Mode: dirPrivate, Owner: root, Group: root, Roles: controllers(), Why: "what the bootstrap applies"},
		{Path: EtcdData, Mode: dirPrivate, Owner: userEtcd, Group: userEtcd, Deep: true, Roles: members(), Why: "every Secret of the cluster is in it"},
		{Path: AuditLog, Mode: dirPrivate, Owner: userAPIServer, Group: userAPIServer, Deep: true, Roles: controllers(), Why: "who did what: the API server writes it"},
	}
}

func etcdFiles() []Path {
	var all []Path
	for _, name := range []string{"server", "peer"} {
		all = append(all, pair(EtcdSecrets, "etcd/"+name, userEtcd, members(), "a member to its clients and peers")...)
	}
	all = append(all, pair(EtcdSecrets, "etcd/healthcheck-client", root, members(), "the operator's client of a member")...)
	return append(all, copyOf(EtcdSecrets+"/ca.crt", "pki/etcd/ca.crt", members(), "recognises clients and peers"))
}

func apiServerFiles() []Path {
	all := slices.Concat(
		pair(APIServerSecrets, "apiserver", userAPIServer, controllers(), "the API server to its clients"),
		pair(APIServerSecrets, "apiserver-kubelet-client", userAPIServer, controllers(), "the API server to kubelets"),
		pair(APIServerSecrets, "apiserver-etcd-client", userAPIServer, controllers(), "the API server to etcd"),
		pair(APIServerSecrets, "front-proxy-client", userAPIServer, controllers(), "the API server to extension servers"),
	)
	return append(all,
		copyOf(APIServerSecrets+"/ca.crt", "pki/ca.crt", controllers(), "recognises clients"),
		copyOf(APIServerSecrets+"/etcd-ca.crt", "pki/etcd/ca.crt", controllers(), "recognises etcd"),
		copyOf(APIServerSecrets+"/front-proxy-ca.crt", "pki/front-proxy-ca.crt", controllers(), "recognises the front proxy"),
		copyOf(APIServerSecrets+"/sa.pub", "pki/sa.pub", controllers(), "checks the tokens of service accounts"),
	)
}

func otherFiles() []Path {
	all := pair(ManagerSecrets, "ca", userControllerManager, controllers(), "signs the certificates of kubelets")
	return append(all,
		copyOf(ManagerSecrets+"/front-proxy-ca.crt", "pki/front-proxy-ca.crt", controllers(), "recognises the front proxy"),
		private(ManagerSecrets+"/controller-manager.conf", "controller-manager.conf", userControllerManager, controllers(), "the controller manager to the API server"),
		private(SchedulerSecrets+"/scheduler.conf", "scheduler.conf", userScheduler, controllers(), "the scheduler to the API server"),
		Path{Path: ServiceAccountDir + "/sa.key", From: "pki/sa.key", Mode: shared, Owner: root, Group: groupKeyReaders, Roles: controllers(), Why: "signs the tokens of service accounts: API server and controller manager"},
		private(bootstrapSecrets+"/super-admin.conf", "super-admin.conf", root, controllers(), "gives all others their rights, once"),
		copyOf(bootstrapSecrets+"/cluster-info.yaml", "manifests/cluster-info.yaml", controllers(), "what joining machines ask for"),
		copyOf(bootstrapSecrets+"/access.yaml", "manifests/access.yaml", controllers(), "the rights of the certificates' groups"),
		private(TokenSecrets, "", root, controllers(), "lets machines join"),
		private(kubernetes+"/admin.conf", "admin.conf", root, controllers(), "the operator to the API server"),
		private(kubernetes+"/kubeconfig", "bootstrap-kubelet.conf", root, []Role{Controller, Worker}, "the kubelet asks for its certificate with it"),
	)
}

// pair is a certificate, which is public, and its key. What is public belongs to
// root, so that no component changes what it is checked by.
func pair(dir, name, owner string, roles []Role, why string) []Path {
	base := dir + "/" + path.Base(name)
	return []Path{
		copyOf(base+".crt", "pki/"+name+".crt", roles, why),
		private(base+".key", "pki/"+name+".key", owner, roles, why),
	}
}

func copyOf(name, from string, roles []Role, why string) Path {
	return Path{Path: name, From: from, Mode: public, Owner: root, Group: root, Roles: roles, Why: why}
}

func private(name, from, owner string, roles []Role, why string) Path {
	return Path{Path: name, From: from, Mode: secret, Owner: owner, Group: owner, Roles: roles, Why: why}
}
