package attest

import (
	"bytes"
	"fmt"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx/v2/common"
	"github.com/spdx/tools-golang/spdx/v2/v2_3"
)

// namespace is what document namespaces start with. Nothing is served there:
// SPDX asks for a URI that is unique, not for one that answers.
const namespace = "https://github.com/imgctl/imgctl/spdx/"

// SPDX returns the SPDX 2.3 document, in JSON, that says what s is made of.
//
// s is the package that the document describes. It contains every Debian
// package, every binary and every file with a path of r; a binary depends on
// the Go modules and the standard library that it was linked from. What was
// read but is not in the image, such as a tarball, belongs into the provenance.
// The creation time is r's and the namespace follows from the digest of s.
func SPDX(s Subject, r Record) ([]byte, error) {
	digest, err := s.hex()
	if err != nil {
		return nil, err
	}
	if r.Created.IsZero() {
		return nil, fmt.Errorf("spdx of %s: the record has no creation time", s.Name)
	}
	d := &spdxDocument{ids: identifiers{"DOCUMENT": true}, modules: map[Module]common.ElementID{}}
	if err := d.addImage(s, digest, r.Platform); err != nil {
		return nil, fmt.Errorf("spdx of %s: %w", s.Name, err)
	}
	for _, m := range sorted(r.Materials) {
		if m.Type == TypeFile && m.Path == "" {
			continue
		}
		if err := d.addMaterial(m); err != nil {
			return nil, fmt.Errorf("spdx of %s: %w", s.Name, err)
		}
	}
	doc := v2_3.Document{
		SPDXVersion:       v2_3.Version,
		DataLicense:       v2_3.DataLicense,
		SPDXIdentifier:    "DOCUMENT",
		DocumentName:      s.Name,
		DocumentNamespace: namespace + "sha256-" + digest,
		CreationInfo: &v2_3.CreationInfo{
			Creators: []common.Creator{{CreatorType: "Tool", Creator: tool(r.Version)}},
			Created:  r.Created.UTC().Format(time.RFC3339),
		},
		Packages:      d.packages,
		Relationships: d.relationships,
	}
	var buf bytes.Buffer
	if err := spdxjson.Write(doc, &buf, spdxjson.EscapeHTML(false)); err != nil {
		return nil, fmt.Errorf("encode spdx of %s: %w", s.Name, err)
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}

// tool names imgctl the way SPDX wants it, "name-version".
func tool(version string) string {
	if version == "" {
		return "imgctl"
	}
	return "imgctl-" + version
}

// spdxDocument collects packages and how they belong together.
type spdxDocument struct {
	ids           identifiers
	root          common.ElementID
	modules       map[Module]common.ElementID // those that are packages already
	packages      []*v2_3.Package
	relationships []*v2_3.Relationship
}

func (d *spdxDocument) addImage(s Subject, digest, platform string) error {
	purl, err := ociPURL(s, platform)
	if err != nil {
		return err
	}
	p := newPackage(s.Name, s.Digest, purl)
	p.PrimaryPackagePurpose = "CONTAINER"
	p.PackageChecksums = checksums(map[string]string{"sha256": digest})
	d.root = d.add(p, "Image", "sha256-"+digest)
	d.relate("DOCUMENT", common.TypeRelationshipDescribe, d.root)
	return nil
}

func (d *spdxDocument) addMaterial(m Material) error {
	if err := m.check(); err != nil {
		return err
	}
	purl, err := m.purl()
	if err != nil {
		return err
	}
	p := newPackage(m.Name, m.Version, purl)
	p.PackageFileName = fileName(m)
	p.PackageChecksums = checksums(m.Digests)
	p.PackageSourceInfo = sourceInfo(m)
	if u, err := url.Parse(m.URI); err == nil && u.Scheme == "https" && u.Host != "" {
		p.PackageDownloadLocation = m.URI
	}
	if validLicense(m.License) {
		p.PackageLicenseDeclared = m.License
	} else if m.License != "" {
		p.PackageLicenseComments = "The package states its licence as: " + m.License
	}
	switch m.Type {
	case TypeBinary:
		p.PrimaryPackagePurpose = "APPLICATION"
	case TypeFile:
		p.PrimaryPackagePurpose = "FILE"
	}
	id := d.add(p, strings.ToUpper(m.Type[:1])+m.Type[1:], m.Name, m.Version, m.Arch)
	d.relate(d.root, common.TypeRelationshipContains, id)
	return d.addModules(id, m)
}

func (d *spdxDocument) addModules(binary common.ElementID, m Material) error {
	modules := slices.Clone(m.Modules)
	if m.GoVersion != "" {
		modules = append(modules, stdlib(m.GoVersion))
	}
	slices.SortFunc(modules, func(a, b Module) int { return strings.Compare(a.key(), b.key()) })
	for _, module := range slices.Compact(modules) {
		id, ok := d.modules[module]
		if !ok {
			purl, err := module.purl()
			if err != nil {
				return err
			}
			p := newPackage(module.Path, module.release(), purl)
			p.PrimaryPackagePurpose = "LIBRARY"
			if module.Sum != "" {
				// A go.sum hash covers a list of files, so it is no checksum in SPDX's sense.
				p.PackageSourceInfo = "go.sum: " + module.Sum
			}
			id = d.add(p, "Go", module.Path, module.Version)
			d.modules[module] = id
		}
		d.relate(binary, common.TypeRelationshipDependsOn, id)
	}
	return nil
}

func (m Module) key() string { return m.Path + "\x00" + m.Version + "\x00" + m.Sum }

// add gives the package an identifier made of parts; empty parts are left out.
func (d *spdxDocument) add(p *v2_3.Package, parts ...string) common.ElementID {
	p.PackageSPDXIdentifier = d.ids.take(slices.DeleteFunc(parts, func(s string) bool { return s == "" })...)
	d.packages = append(d.packages, p)
	return p.PackageSPDXIdentifier
}

func (d *spdxDocument) relate(from common.ElementID, relation string, to common.ElementID) {
	d.relationships = append(d.relationships, &v2_3.Relationship{
		RefA:         common.DocElementID{ElementRefID: from},
		RefB:         common.DocElementID{ElementRefID: to},
		Relationship: relation,
	})
}

// newPackage returns a package about which nothing is asserted but what it is.
func newPackage(name, version, purl string) *v2_3.Package {
	p := &v2_3.Package{
		PackageName:             name,
		PackageVersion:          version,
		PackageSupplier:         &common.Supplier{Supplier: noAssertion},
		PackageOriginator:       &common.Originator{Originator: noAssertion},
		PackageDownloadLocation: noAssertion,
		PackageLicenseConcluded: noAssertion,
		PackageLicenseDeclared:  noAssertion,
		PackageCopyrightText:    noAssertion,
	}
	if purl != "" {
		p.PackageExternalReferences = []*v2_3.PackageExternalReference{{
			Category: common.CategoryPackageManager,
			RefType:  common.TypePackageManagerPURL,
			Locator:  purl,
		}}
	}
	return p
}

func checksums(digests map[string]string) []common.Checksum {
	var sums []common.Checksum
	for _, algorithm := range slices.Sorted(maps.Keys(digests)) {
		sums = append(sums, common.Checksum{Algorithm: common.ChecksumAlgorithm(strings.ToUpper(algorithm)), Value: digests[algorithm]})
	}
	return sums
}

func fileName(m Material) string {
	if m.Path != "" || m.URI == "" {
		return m.Path
	}
	return path.Base(m.URI)
}

func sourceInfo(m Material) string {
	switch {
	case m.Source == "":
		return ""
	case m.Type == TypeDeb:
		return "built from Debian source package " + m.Source
	}
	return "taken out of " + m.Source
}
