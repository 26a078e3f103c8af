package build

import (
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
	"time"

	"github.com/package-url/packageurl-go"

	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// Binary is what is known about a program in the image.
type Binary struct {
	Path      string          `json:"path"` // in the image
	SHA256    string          `json:"sha256"`
	GoVersion string          `json:"goVersion,omitempty"` // "" when it is no Go program
	Modules   []attest.Module `json:"modules,omitempty"`
}

// Inspect hashes the programs and reads what Go's linker wrote into them.
func Inspect(files []rootfs.OnDisk) ([]Binary, error) {
	binaries := make([]Binary, len(files))
	for i, f := range files {
		var err error
		if binaries[i], err = inspectBinary(f); err != nil {
			return nil, err
		}
	}
	return binaries, nil
}

func inspectBinary(f rootfs.OnDisk) (Binary, error) {
	file, err := os.Open(f.File)
	if err != nil {
		return Binary{}, err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return Binary{}, fmt.Errorf("hash %s: %w", f.Path, err)
	}
	b := Binary{Path: f.Path, SHA256: hex.EncodeToString(h.Sum(nil))}
	info, err := buildinfo.Read(file)
	if err != nil {
		return b, nil // stripped of it, or not written in Go: no mistake
	}
	b.GoVersion = info.GoVersion
	for _, m := range info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		b.Modules = append(b.Modules, attest.Module{Path: m.Path, Version: m.Version, Sum: m.Sum})
	}
	return b, nil
}

// Made is what an engine knows about the image that it made, beside the input.
type Made struct {
	Engine    map[string]any    // which engine in which version: whatever decides the bytes
	Licenses  map[string]string // SPDX expressions by package, where they are known
	Published []*upstream.Blob  // what upstream's programs were taken from
	Binaries  []Binary          // what [Inspect] says of the programs
}

// Record says what the image of one platform was made of.
func (in Input) Record(m Made) (attest.Record, error) {
	documents, err := Documents(in.Spec, in.Lock)
	if err != nil {
		return attest.Record{}, err
	}
	r := attest.Record{Builder: BuilderID, Created: in.Lock.Created.UTC(), Platform: in.Platform.String(),
		Parameters: in.Spec.parameters(in.Lock, in.Target), Internal: m.Engine, Materials: documents}
	for _, s := range in.Lock.Debian.Suites {
		r.Materials = append(r.Materials, attest.Material{Name: "InRelease", Type: attest.TypeFile, URI: "dists/" + s.Suite + "/InRelease",
			Digests: map[string]string{"sha256": s.InRelease}, Proofs: []string{string(upstream.Signature)}})
	}
	for _, p := range in.Packages() {
		r.Materials = append(r.Materials, in.packageMaterial(p, m.Licenses[p.Name]))
	}
	r.Materials = append(r.Materials, in.programMaterials(m)...)
	return r, nil
}

// programMaterials describes what was published, and the programs that came of it.
func (in Input) programMaterials(m Made) []attest.Material {
	var all []attest.Material
	for _, b := range m.Published {
		published := attest.Material{Name: path.Base(b.Path), Version: in.Target.Version, Arch: in.Platform.Architecture,
			Type: attest.TypeFile, URI: b.Path, Digests: map[string]string{"sha256": b.SHA256, "sha512": b.SHA512}}
		for _, proof := range b.Proofs {
			published.Proofs = append(published.Proofs, string(proof))
		}
		all = append(all, published)
	}
	for i, f := range m.Binaries {
		program := attest.Material{Name: path.Base(f.Path), Arch: in.Platform.Architecture, Type: attest.TypeBinary, Path: f.Path,
			Digests: map[string]string{"sha256": f.SHA256}, Modules: f.Modules, GoVersion: f.GoVersion}
		if i < len(in.Spec.Upstream.Files) {
			program.Version, program.License = in.Target.Version, kubernetesLicense
			program.Source = path.Base(in.Spec.Upstream.Files[i].source(in.Target.Version, in.Platform.Architecture))
		}
		all = append(all, program)
	}
	return all
}

// parameters is what provenance says that the user asked for.
func (s *Spec) parameters(l *Lock, t Target) map[string]any {
	return map[string]any{
		"created":   l.Created.UTC().Format(time.RFC3339), // not the lock's own when SOURCE_DATE_EPOCH says another
		"platforms": s.Platforms,
		"version":   t.Version,
		"variant":   t.Variant,
		"require":   s.Upstream.Require,
		"suites":    s.Packages.Suites,
		"install":   s.variant(t.Variant).Packages.Install,
		"spec":      s.Question(),
	}
}

// kubernetesLicense is the licence of Kubernetes' own programs. Their modules have others.
const kubernetesLicense = "Apache-2.0"

// Documents describes the files that say what the images are: image.yaml, the
// lock as it is now (see [Lock.Created]), and the keyring when there is one.
func Documents(s *Spec, l *Lock) ([]attest.Material, error) {
	lock, err := l.Bytes()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(lock)
	documents := []attest.Material{document(SpecFile, s.sum), document(LockFile, hex.EncodeToString(sum[:]))}
	if s.keyring != nil {
		keyring := sha256.Sum256(s.keyring)
		documents = append(documents, document(s.Packages.Keyring, hex.EncodeToString(keyring[:])))
	}
	return documents, nil
}

func document(name, sha256 string) attest.Material {
	return attest.Material{Name: name, Type: attest.TypeFile, Digests: map[string]string{"sha256": sha256}}
}

// packageMaterial describes a Debian package. What the lock pins has been found
// there by the suite's signature, hence the proofs.
func (in Input) packageMaterial(p LockedPackage, license string) attest.Material {
	qualifiers := packageurl.QualifiersFromMap(map[string]string{"arch": p.Architecture, "distro": in.distribution()})
	return attest.Material{Name: p.Name, Version: p.Version, Arch: p.Architecture, Type: attest.TypeDeb,
		PURL: packageurl.NewPackageURL(packageurl.TypeDebian, "debian", p.Name, p.Version, qualifiers, "").ToString(),
		URI:  p.Path, License: license, Source: p.Source + " " + p.SourceVersion,
		Digests: map[string]string{"sha256": p.SHA256}, Proofs: []string{string(upstream.Pinned)}}
}

// distribution is how vulnerability databases name the release: "debian-13". Its
// number is that of base-files (Debian 13.1 has base-files 13.8+deb13u1); without it, the codename.
func (in Input) distribution() string {
	for _, p := range in.Packages() {
		if p.Name == "base-files" {
			number, _, _ := strings.Cut(p.Version, ".")
			return "debian-" + number
		}
	}
	return "debian-" + in.Lock.Debian.Suites[0].Codename
}
