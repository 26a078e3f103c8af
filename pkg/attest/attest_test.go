package attest_test

import (
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/imgctl/imgctl/pkg/attest"
)

func sha(s string) string     { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }
func sha512x(s string) string { return fmt.Sprintf("%x", sha512.Sum512([]byte(s))) }

func subject() attest.Subject {
	return attest.Subject{Name: "quay.io/poseidon/kubelet", Digest: "sha256:" + sha("manifest")}
}

// record is shaped like what a build of one platform writes down.
func record(arch string) attest.Record {
	modules := []attest.Module{
		{Path: "k8s.io/api", Version: "v0.36.2", Sum: "h1:9yGfDmmb0mZkvI9cFF1Ue0oFWp3WSrIhgdPM0E2TLWA="},
		{Path: "github.com/Azure/go-ntlmssp", Version: "v0.0.0-20221128193559-754e69321358", Sum: "h1:mFRzDkZVAjdal+s7s0MwaRv9igoPqLRdzOLzw/8Xvq8="},
		{Path: "github.com/docker/cli", Version: "v29.7.2+incompatible"},
		{Path: "gopkg.in/yaml.v3", Version: "(devel)"},
	}
	binary := func(name string) attest.Material {
		return attest.Material{
			Name: name, Version: "v1.36.2", Arch: arch, Type: attest.TypeBinary, License: "Apache-2.0",
			Source: "kubernetes-node-linux-" + arch + ".tar.gz", Path: "/usr/local/bin/" + name,
			Digests: map[string]string{"sha256": sha(name + arch)}, Modules: modules, GoVersion: "go1.26.3",
		}
	}
	deb := func(name, version, arch, license string) attest.Material {
		return attest.Material{
			Name: name, Version: version, Arch: arch, Type: attest.TypeDeb, License: license, Source: name,
			URI:     "pool/main/" + name[:1] + "/" + name + "/" + name + "_" + version + "_" + arch + ".deb",
			Digests: map[string]string{"sha256": sha(name + version + arch)}, Proofs: []string{"signature"},
		}
	}
	return attest.Record{
		Builder:    "https://github.com/imgctl/imgctl",
		Version:    "v0.1.0",
		Created:    time.Unix(1780000000, 0),
		Platform:   "linux/" + arch,
		Parameters: map[string]any{"version": "v1.36.2", "sourceDateEpoch": 1780000000, "spec": map[string]any{"sha256": sha("spec")}},
		Internal:   map[string]any{"go": "go1.26.3", "compressor": "gzip -6"},
		Materials: []attest.Material{
			deb("iptables", "1.8.11-2", arch, "GPL-2.0-or-later"),
			deb("libc6", "2.41-12", arch, "GPL-2+ and LGPL-2.1+"),
			deb("ca-certificates", "20250419", "all", ""),
			deb("libstdc++6", "14.2.0-19", arch, "GPL-3.0-or-later WITH GCC-exception-3.1"),
			deb("e2fsprogs", "1.47.2-3+b3", arch, ""),
			deb("login.defs", "1:4.17.4-2", "all", ""),
			binary("kubelet"), binary("kubectl"),
			{Name: "kubernetes-node-linux-" + arch + ".tar.gz", Version: "v1.36.2", Type: attest.TypeFile, URI: "v1.36.2/kubernetes-node-linux-" + arch + ".tar.gz",
				Digests: map[string]string{"sha256": sha("tar" + arch), "sha512": sha512x("tar" + arch)}, Proofs: []string{"signature", "pin", "pin"}},
			{Name: "InRelease", Type: attest.TypeFile, URI: "dists/trixie/InRelease", Digests: map[string]string{"sha256": sha("InRelease")}},
			{Name: "debian-archive-keyring.gpg", Type: attest.TypeFile, Path: "", Digests: map[string]string{"sha256": sha("keyring")}},
			{Name: "iptables-wrapper", Type: attest.TypeFile, Path: "/usr/sbin/iptables-wrapper", Digests: map[string]string{"sha256": sha("wrapper")}},
		},
	}
}

// shuffled is the same record, written down in another order.
func shuffled(r attest.Record) attest.Record {
	r.Materials = slices.Clone(r.Materials)
	slices.Reverse(r.Materials)
	for i := range r.Materials {
		r.Materials[i].Modules = slices.Clone(r.Materials[i].Modules)
		slices.Reverse(r.Materials[i].Modules)
	}
	r.Materials = append(r.Materials, r.Materials[0]) // and something twice
	return r
}

func TestTheOrderOfTheRecordDoesNotShow(t *testing.T) {
	r := record("amd64")
	for name, makeDocument := range map[string]func(attest.Record) ([]byte, error){
		"spdx":       func(r attest.Record) ([]byte, error) { return attest.SPDX(subject(), r) },
		"provenance": attest.Provenance,
	} {
		want, err := makeDocument(r)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 { // map order differs from run to run
			got, err := makeDocument(shuffled(r))
			if err != nil || string(got) != string(want) {
				t.Fatalf("%s: %v: got\n%s\nwant\n%s", name, err, got, want)
			}
		}
		r2 := record("amd64")
		r2.Materials[0].Digests["sha256"] = sha("another iptables")
		if got, err := makeDocument(r2); err != nil || string(got) == string(want) {
			t.Errorf("%s: another input gave the same document (%v)", name, err)
		}
	}
}

func TestMaterialsWithoutAGoodDigestAreRefused(t *testing.T) {
	for name, spoil := range map[string]func(*attest.Material){
		"none":             func(m *attest.Material) { m.Digests = nil },
		"empty":            func(m *attest.Material) { m.Digests = map[string]string{"sha256": ""} },
		"short":            func(m *attest.Material) { m.Digests = map[string]string{"sha256": "abcd"} },
		"capitals":         func(m *attest.Material) { m.Digests = map[string]string{"sha256": "A" + sha("x")[1:]} },
		"not hexadecimal":  func(m *attest.Material) { m.Digests = map[string]string{"sha256": "g" + sha("x")[1:]} },
		"of the other sum": func(m *attest.Material) { m.Digests = map[string]string{"sha512": sha("x")} },
		"weak":             func(m *attest.Material) { m.Digests = map[string]string{"md5": "d41d8cd98f00b204e9800998ecf8427e"} },
		"no name":          func(m *attest.Material) { m.Name = "" },
		"no type":          func(m *attest.Material) { m.Type = "" },
		"other type":       func(m *attest.Material) { m.Type = "rpm" },
		"bad purl":         func(m *attest.Material) { m.PURL = "iptables" },
	} {
		t.Run(name, func(t *testing.T) {
			r := record("amd64")
			spoil(&r.Materials[0])
			if data, err := attest.Provenance(r); err == nil {
				t.Errorf("provenance: got %s", data)
			}
			if data, err := attest.SPDX(subject(), r); err == nil {
				t.Errorf("spdx: got %s", data)
			}
		})
	}
}

func TestSubjectsWithoutAGoodDigestAreRefused(t *testing.T) {
	for name, s := range map[string]attest.Subject{
		"no digest":    {Name: "a"},
		"no algorithm": {Name: "a", Digest: sha("x")},
		"sha512":       {Name: "a", Digest: "sha512:" + sha512x("x")},
		"short":        {Name: "a", Digest: "sha256:ab"},
		"a tag":        {Name: "a", Digest: "v1.36.2"},
		"no name":      {Digest: "sha256:" + sha("x")},
	} {
		t.Run(name, func(t *testing.T) {
			if data, err := attest.SPDX(s, record("amd64")); err == nil {
				t.Errorf("spdx: got %s", data)
			}
			if data, err := attest.Statement(s, attest.PredicateSPDX, nil); err == nil {
				t.Errorf("statement: got %s", data)
			}
		})
	}
}

func TestAnIndexIsMadeOfWhatItsPlatformsAre(t *testing.T) {
	amd64, arm64 := record("amd64"), record("arm64")
	index := attest.Record{Builder: amd64.Builder, Materials: []attest.Material{amd64.Materials[0]}}
	u := attest.Union(index, amd64, arm64)
	if u.Builder != index.Builder || u.Platform != "" {
		t.Errorf("got %+v, want the index's own fields", u)
	}
	count := map[string]int{}
	for _, m := range u.Materials {
		count[m.Name]++
	}
	for name, want := range map[string]int{"iptables": 2, "kubelet": 2, "ca-certificates": 1, "InRelease": 1} {
		if count[name] != want {
			t.Errorf("%s: got %d times, want %d", name, count[name], want)
		}
	}
	if len(index.Materials) != 1 || index.Materials[0].Name != "iptables" || amd64.Materials[0].Name != "iptables" {
		t.Error("union changed its arguments")
	}
	one, err := attest.Provenance(attest.Union(index, amd64, arm64))
	if err != nil {
		t.Fatal(err)
	}
	if two, err := attest.Provenance(attest.Union(index, arm64, amd64)); err != nil || string(one) != string(two) {
		t.Errorf("the order of the platforms shows (%v)", err)
	}
}

func TestWhatWasCheckedTwiceHasBothProofs(t *testing.T) {
	m := record("amd64").Materials[0]
	n := m
	n.Proofs = []string{"pin"}
	u := attest.Union(attest.Record{Materials: []attest.Material{m}}, attest.Record{Materials: []attest.Material{n}})
	if len(u.Materials) != 1 || !slices.Equal(u.Materials[0].Proofs, []string{"pin", "signature"}) {
		t.Errorf("got %+v", u.Materials)
	}
}
