package bootstrap

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// noon is when everything in the tests happens.
var noon = time.Date(2026, 7, 1, 12, 0, 0, 0, time.UTC)

const clusterFile = `apiVersion: imgctl.dev/v1
kind: Cluster
name: example
controlPlaneEndpoint: api.example.com:6443
apiServer:
  certSANs: [192.0.2.10, node1.example.com]
networking:
  serviceSubnet: 10.3.0.0/16
  podSubnet: 10.2.0.0/16
etcd:
  servers: [node1.example.com]
lifetimes:
  ca: 43800h
  certificate: 4380h
  superAdmin: 12h
  token: 2h
`

// parsed is the cluster file, with old replaced by new for each pair.
func parsed(t testing.TB, pairs ...string) *Cluster {
	t.Helper()
	text := strings.NewReplacer(pairs...).Replace(clusterFile)
	if len(pairs) > 0 && text == clusterFile {
		t.Fatalf("%q is not in the file", pairs)
	}
	c, _, err := Parse("cluster.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// initialized is a directory that Init has filled.
func initialized(t testing.TB, c *Cluster) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "secrets")
	if _, err := Init(t.Context(), dir, c, nil, noon); err != nil {
		t.Fatal(err)
	}
	return dir
}

// tree is every file below dir with its bytes.
func tree(t testing.TB, dir string) map[string]string {
	t.Helper()
	files := make(map[string]string)
	err := filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		rel, _ := filepath.Rel(dir, path)
		files[rel] = string(body)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func read(t testing.TB, dir, name string) []byte {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func write(t testing.TB, dir, name string, body []byte, mode os.FileMode) {
	t.Helper()
	path := filepath.Join(dir, name)
	os.Remove(path)
	if err := os.WriteFile(path, body, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

// onlyGrant is the one token of a directory.
func onlyGrant(t testing.TB, dir string, now time.Time) Grant {
	t.Helper()
	d, err := openDir(t.Context(), dir, now)
	if err != nil {
		t.Fatal(err)
	}
	defer d.close()
	grants, _, err := d.grants()
	if err != nil || len(grants) != 1 {
		t.Fatalf("got %d tokens and %v, want one", len(grants), err)
	}
	return grants[0]
}
