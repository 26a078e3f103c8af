package build_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/pkg/attest"
)

func TestARecordNamesEveryInputByItsDigest(t *testing.T) {
	w := newWorld(t)
	l := w.lock(t, nil)
	first := w.mustBuild(t)
	again := w.mustBuild(t) // from cached layers: they remember licences and modules
	byName := make(map[string]attest.Material)
	for _, m := range again.Records["linux/arm64"].Materials {
		byName[m.Name] = m
	}
	for _, p := range l.Debian.Packages["default"]["linux/arm64"] {
		if m := byName[p.Name]; m.Type != attest.TypeDeb || m.Digests["sha256"] != p.SHA256 || m.URI != p.Path || !strings.HasPrefix(m.PURL, "pkg:deb/debian/"+p.Name+"@") {
			t.Errorf("%s: got %+v", p.Name, m)
		}
	}
	if m := byName["iptables"]; m.License != "GPL-2.0-or-later" || m.PURL != "pkg:deb/debian/iptables@1.8.11-2?arch=arm64&distro=debian-13" {
		t.Errorf("got %+v", m)
	}
	if m := byName["kubernetes-node-linux-arm64.tar.gz"]; !slices.Contains(m.Proofs, "signature") || !slices.Contains(m.Proofs, "pin") || m.Digests["sha512"] == "" {
		t.Errorf("got %+v", m)
	}
	if m := byName["image.yaml"]; m.Digests["sha256"] == "" {
		t.Errorf("got %+v", m)
	}
	subject := attest.Subject{Name: "kubelet", Digest: digest(t, first.Index)}
	for platform, record := range again.Records {
		if a, b := asJSON(t, first.Records[platform]), asJSON(t, record); a != b {
			t.Errorf("%s: the record of a rebuild differs", platform)
		}
		_, err := attest.SPDX(subject, record)
		must(t, err)
		_, err = attest.Provenance(record)
		must(t, err)
	}
	if got, want := again.Record.Parameters["created"], l.Created.UTC().Format(time.RFC3339); got != want {
		t.Errorf("created: got %v, want %s", got, want)
	}
	for platform, record := range again.Records {
		if got := again.Record.Internal[platform]; asJSON(t, got) != asJSON(t, record.Internal) || record.Internal["engine"] != "layers" {
			t.Errorf("%s: got %v, want %v", platform, got, record.Internal)
		}
	}
	if len(again.Record.Materials) <= len(again.Records["linux/arm64"].Materials) {
		t.Error("the index has not the materials of both platforms")
	}
}

func asJSON(t testing.TB, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	must(t, err)
	return string(data)
}
