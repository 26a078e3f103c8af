package attest_test

import (
	"bytes"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/package-url/packageurl-go"
	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"

	"github.com/imgctl/imgctl/pkg/attest"
)

var (
	idForm      = regexp.MustCompile(`^[A-Za-z0-9.-]+$`)
	createdForm = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$`)
)

// validate reads a document back and holds it to the rules of SPDX 2.3 that a
// JSON schema cannot express as well as those that it can.
func validate(t *testing.T, data []byte) *v2_3.Document {
	t.Helper()
	var doc v2_3.Document
	if err := spdxjson.ReadInto(bytes.NewReader(data), &doc); err != nil {
		t.Fatal(err)
	}
	if doc.SPDXVersion != "SPDX-2.3" || doc.DataLicense != "CC0-1.0" || doc.SPDXIdentifier != "DOCUMENT" || doc.DocumentName == "" {
		t.Errorf("head: got %q %q %q %q", doc.SPDXVersion, doc.DataLicense, doc.SPDXIdentifier, doc.DocumentName)
	}
	if u, err := url.Parse(doc.DocumentNamespace); err != nil || !u.IsAbs() || strings.Contains(doc.DocumentNamespace, "#") {
		t.Errorf("namespace: got %q (%v), want an absolute URI without a fragment", doc.DocumentNamespace, err)
	}
	if len(doc.CreationInfo.Creators) == 0 || !createdForm.MatchString(doc.CreationInfo.Created) {
		t.Errorf("creation: got %+v", doc.CreationInfo)
	}
	ids := map[common.ElementID]bool{"DOCUMENT": true}
	for _, p := range doc.Packages {
		if ids[p.PackageSPDXIdentifier] || !idForm.MatchString(string(p.PackageSPDXIdentifier)) {
			t.Errorf("identifier %q of %s: not unique or not allowed", p.PackageSPDXIdentifier, p.PackageName)
		}
		ids[p.PackageSPDXIdentifier] = true
		validatePackage(t, p)
	}
	validateRelationships(t, &doc, ids)
	return &doc
}

func validatePackage(t *testing.T, p *v2_3.Package) {
	t.Helper()
	if p.PackageName == "" || p.PackageDownloadLocation == "" || !p.IsFilesAnalyzedTagPresent || p.FilesAnalyzed || p.PackageVerificationCode != nil {
		t.Errorf("package %s: a required field is missing: %+v", p.PackageName, p)
	}
	for what, value := range map[string]string{"declared": p.PackageLicenseDeclared, "concluded": p.PackageLicenseConcluded, "copyright": p.PackageCopyrightText} {
		if value == "" {
			t.Errorf("package %s: %s licence is empty", p.PackageName, what)
		}
	}
	if p.PackageSupplier == nil || p.PackageOriginator == nil {
		t.Errorf("package %s: no supplier or originator", p.PackageName)
	}
	for _, c := range p.PackageChecksums {
		if n := map[common.ChecksumAlgorithm]int{common.SHA256: 64, common.SHA512: 128}[c.Algorithm]; len(c.Value) != n {
			t.Errorf("package %s: checksum %s %s", p.PackageName, c.Algorithm, c.Value)
		}
	}
	for _, ref := range p.PackageExternalReferences {
		u, err := packageurl.FromString(ref.Locator)
		if err != nil || u.ToString() != ref.Locator || ref.Category != "PACKAGE-MANAGER" || ref.RefType != "purl" {
			t.Errorf("package %s: reference %+v: %v", p.PackageName, ref, err)
		}
	}
}

// validateRelationships wants every end to exist and every package to be
// reachable from the document.
func validateRelationships(t *testing.T, doc *v2_3.Document, ids map[common.ElementID]bool) {
	t.Helper()
	reached := map[common.ElementID]bool{"DOCUMENT": true}
	for _, r := range doc.Relationships {
		from, to := r.RefA.ElementRefID, r.RefB.ElementRefID
		if !ids[from] || !ids[to] {
			t.Errorf("relationship %s %s %s: an end is not in the document", from, r.Relationship, to)
		}
		if !reached[from] {
			t.Errorf("relationship %s %s %s: comes before what it hangs on", from, r.Relationship, to)
		}
		reached[to] = true
	}
	if len(reached) != len(ids) {
		t.Errorf("reached %d of %d elements from the document", len(reached), len(ids))
	}
}

func spdxOf(t *testing.T, r attest.Record) (*v2_3.Document, map[string]*v2_3.Package) {
	t.Helper()
	data, err := attest.SPDX(subject(), r)
	if err != nil {
		t.Fatal(err)
	}
	doc := validate(t, data)
	byName := map[string]*v2_3.Package{}
	for _, p := range doc.Packages {
		byName[p.PackageName] = p
	}
	return doc, byName
}

func TestSPDXDescribesTheImageAndEverythingInIt(t *testing.T) {
	doc, p := spdxOf(t, record("arm64"))
	if got, want := doc.CreationInfo.Created, "2026-05-28T20:26:40Z"; got != want {
		t.Errorf("created: got %s, want %s", got, want)
	}
	if got := doc.CreationInfo.Creators[0]; got.CreatorType != "Tool" || got.Creator != "imgctl-v0.1.0" {
		t.Errorf("creator: got %+v", got)
	}
	if !strings.HasSuffix(doc.DocumentNamespace, "/sha256-"+sha("manifest")) {
		t.Errorf("namespace %s does not follow from the digest", doc.DocumentNamespace)
	}
	for name, purl := range map[string]string{
		"quay.io/poseidon/kubelet":    "pkg:oci/kubelet@sha256:" + sha("manifest") + "?arch=arm64&repository_url=quay.io%2Fposeidon%2Fkubelet",
		"iptables":                    "pkg:deb/debian/iptables@1.8.11-2?arch=arm64",
		"ca-certificates":             "pkg:deb/debian/ca-certificates@20250419?arch=all",
		"libstdc++6":                  "pkg:deb/debian/libstdc%2B%2B6@14.2.0-19?arch=arm64",
		"login.defs":                  "pkg:deb/debian/login.defs@1:4.17.4-2?arch=all",
		"kubelet":                     "pkg:generic/kubelet@v1.36.2?arch=arm64",
		"k8s.io/api":                  "pkg:golang/k8s.io/api@v0.36.2",
		"github.com/Azure/go-ntlmssp": "pkg:golang/github.com/azure/go-ntlmssp@v0.0.0-20221128193559-754e69321358",
		"github.com/docker/cli":       "pkg:golang/github.com/docker/cli@v29.7.2%2Bincompatible",
		"gopkg.in/yaml.v3":            "pkg:golang/gopkg.in/yaml.v3",
		"stdlib":                      "pkg:golang/stdlib@1.26.3",
	} {
		if p[name] == nil {
			t.Errorf("%s is missing", name)
		} else if got := p[name].PackageExternalReferences[0].Locator; got != purl {
			t.Errorf("%s: got %s, want %s", name, got, purl)
		}
	}
	if got := p["kubelet"]; got.PackageVersion != "v1.36.2" || got.PackageFileName != "/usr/local/bin/kubelet" || got.PackageChecksums[0].Value != sha("kubeletarm64") {
		t.Errorf("kubelet: got %+v", got)
	}
	if got := p["iptables"]; got.PackageFileName != "iptables_1.8.11-2_arm64.deb" || got.PackageSourceInfo != "built from Debian source package iptables" {
		t.Errorf("iptables: got %+v", got)
	}
	if p["iptables-wrapper"] == nil || p["InRelease"] != nil || p["kubernetes-node-linux-arm64.tar.gz"] != nil {
		t.Error("want the files of the image, and not those that were only read")
	}
}

func TestSPDXSharesModulesBetweenBinaries(t *testing.T) {
	doc, p := spdxOf(t, record("amd64"))
	for _, binary := range []string{"kubelet", "kubectl"} {
		var depends int
		for _, r := range doc.Relationships {
			if r.RefA.ElementRefID == p[binary].PackageSPDXIdentifier && r.Relationship == "DEPENDS_ON" {
				depends++
			}
		}
		if depends != 5 {
			t.Errorf("%s: got %d modules, want its four and the standard library", binary, depends)
		}
	}
	if want := 1 + 6 + 2 + 1 + 5; len(doc.Packages) != want {
		t.Errorf("got %d packages, want %d", len(doc.Packages), want)
	}
}

func TestSPDXDeclaresOnlyLicencesThatSPDXKnows(t *testing.T) {
	for stated, want := range map[string]string{
		"":                                       "NOASSERTION",
		"MIT":                                    "MIT",
		"GPL-2.0-or-later":                       "GPL-2.0-or-later",
		"MIT AND (GPL-2.0-only OR BSD-3-Clause)": "MIT AND (GPL-2.0-only OR BSD-3-Clause)",
		"GPL-3.0-or-later WITH GCC-exception-3.1": "GPL-3.0-or-later WITH GCC-exception-3.1",
		"GPL-2+":                    "NOASSERTION", // Debian's name
		"GPL-2+ and LGPL-2.1+":      "NOASSERTION",
		"MIT OR":                    "NOASSERTION",
		"AND MIT":                   "NOASSERTION",
		"(MIT":                      "NOASSERTION",
		"MIT)":                      "NOASSERTION",
		"()":                        "NOASSERTION",
		"MIT MIT":                   "NOASSERTION",
		"MIT WITH MIT":              "NOASSERTION",
		"LicenseRef-mine":           "NOASSERTION",
		strings.Repeat("(", 100000): "NOASSERTION",
	} {
		r := record("amd64")
		r.Materials[0].License = stated
		_, p := spdxOf(t, r)
		if got := p["iptables"].PackageLicenseDeclared; got != want {
			t.Errorf("%.60q: got %q, want %q", stated, got, want)
		}
		if known := p["iptables"].PackageLicenseComments == ""; known != (want == stated || stated == "") {
			t.Errorf("%.60q: comment is %.60q", stated, p["iptables"].PackageLicenseComments)
		}
	}
}

func TestSPDXTellsApartWhatOnlyLooksAlike(t *testing.T) {
	r := record("amd64")
	r.Materials = nil
	for i, name := range []string{"a+b", "a_b", "a-b", "a/b", "ä", "a b", "\n", strings.Repeat("x", 5000)} {
		for range 2 { // the same name with two digests
			r.Materials = append(r.Materials, attest.Material{Name: name, Type: attest.TypeDeb, Digests: map[string]string{"sha256": sha(name + string(rune(len(r.Materials)+i)))}})
		}
	}
	doc, _ := spdxOf(t, r)
	if want := 1 + len(r.Materials); len(doc.Packages) != want {
		t.Errorf("got %d packages, want %d", len(doc.Packages), want)
	}
}

func TestSPDXNeedsACreationTime(t *testing.T) {
	r := record("amd64")
	r.Created = time.Time{}
	if data, err := attest.SPDX(subject(), r); err == nil {
		t.Errorf("got %s", data)
	}
}

func FuzzIdentifiersAndPackageURLs(f *testing.F) {
	f.Add("iptables", "1.8.11-2", "amd64", "k8s.io/api")
	f.Add("libstdc++6", "1:14~rc1+b2", "", "github.com/Azure/x/v2")
	f.Add("SPDXRef-a", "?#%", "a&b=c", "../..")
	f.Add("\xff", "\x00", "@", "/")
	f.Fuzz(func(t *testing.T, name, version, arch, module string) {
		r := attest.Record{Created: time.Unix(1, 0)}
		for _, typ := range []string{attest.TypeDeb, attest.TypeBinary, attest.TypeFile} {
			r.Materials = append(r.Materials, attest.Material{
				Name: name, Version: version, Arch: arch, Type: typ, Path: "/x", Digests: map[string]string{"sha256": sha(name)},
				Modules: []attest.Module{{Path: module, Version: version}},
			})
		}
		data, err := attest.SPDX(subject(), r)
		if err != nil {
			return // a name that no package URL can have
		}
		validate(t, data)
	})
}
