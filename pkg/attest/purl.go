package attest

import (
	"fmt"
	"path"
	"strings"

	"github.com/package-url/packageurl-go"
)

// purl returns the material's package URL: the one that it has, or one made
// from its name, version and architecture. A file that names none has none.
func (m Material) purl() (string, error) {
	if m.PURL != "" {
		if _, err := packageurl.FromString(m.PURL); err != nil {
			return "", fmt.Errorf("material %s: package URL %.200q: %w", m.Name, m.PURL, err)
		}
		return m.PURL, nil
	}
	switch m.Type {
	case TypeDeb:
		return purl(packageurl.TypeDebian, "debian", m.Name, m.Version, "arch", m.Arch)
	case TypeBinary:
		return purl(packageurl.TypeGeneric, "", m.Name, m.Version, "arch", m.Arch)
	}
	return "", nil
}

// purl returns the package URL of the Go module.
func (m Module) purl() (string, error) {
	namespace, name := path.Split(m.Path)
	return purl(packageurl.TypeGolang, strings.TrimSuffix(namespace, "/"), name, m.release())
}

// release is the module's version, or "" when the linker did not know it.
func (m Module) release() string {
	if m.Version == "(devel)" {
		return ""
	}
	return m.Version
}

// stdlib is the Go standard library of a toolchain as a module, the way
// vulnerability databases name it: "go1.26.3" is version 1.26.3 of "stdlib".
func stdlib(goVersion string) Module {
	return Module{Path: "stdlib", Version: strings.TrimPrefix(goVersion, "go")}
}

// ociPURL returns the package URL of the image that s names
// (https://github.com/package-url/purl-spec, type oci).
func ociPURL(s Subject, platform string) (string, error) {
	_, arch, _ := strings.Cut(platform, "/")
	repository := ""
	if strings.Contains(s.Name, "/") {
		repository = s.Name
	}
	return purl(packageurl.TypeOCI, "", strings.ToLower(path.Base(s.Name)), s.Digest,
		"arch", arch, "repository_url", repository)
}

// purl makes a package URL in normal form. Qualifiers are keys and values in
// turn; those with an empty value are left out.
func purl(typ, namespace, name, version string, qualifiers ...string) (string, error) {
	var q packageurl.Qualifiers
	for i := 0; i+1 < len(qualifiers); i += 2 {
		if qualifiers[i+1] != "" {
			q = append(q, packageurl.Qualifier{Key: qualifiers[i], Value: qualifiers[i+1]})
		}
	}
	p := packageurl.NewPackageURL(typ, namespace, name, version, q, "")
	if err := p.Normalize(); err != nil {
		return "", fmt.Errorf("make a package URL for %.200q: %w", name, err)
	}
	return p.ToString(), nil
}
