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

	"github.com/package-url/packageurl-go"

	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build/layer"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// binary is what is known about a program in the image.
type binary struct {
	Path      string          `json:"path"` // in the image
	SHA256    string          `json:"sha256"`
	GoVersion string          `json:"goVersion,omitempty"` // "" when it is no Go program
	Modules   []attest.Module `json:"modules,omitempty"`
}

// inspectBinary hashes a program and reads what Go's linker wrote into it.
func inspectBinary(f rootfs.OnDisk) (binary, error) {
	file, err := os.Open(f.File)
	if err != nil {
		return binary{}, err
	}
	defer file.Close()
	h := sha256.New()
	if _, err := io.Copy(h, file); err != nil {
		return binary{}, fmt.Errorf("hash %s: %w", f.Path, err)
	}
	b := binary{Path: f.Path, SHA256: hex.EncodeToString(h.Sum(nil))}
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

// record says what the image of one platform was made of.
func (in Input) record(system systemNotes, node nodeNotes, blobs []*upstream.Blob) (attest.Record, error) {
	lock, err := in.Lock.Bytes()
	if err != nil {
		return attest.Record{}, err
	}
	sum := sha256.Sum256(lock)
	keyring := sha256.Sum256(in.Spec.keyring)
	r := attest.Record{Builder: Builder, Created: in.Lock.Created.UTC(), Platform: in.Platform.String(), Parameters: in.Spec.parameters(),
		Internal: map[string]any{"engine": "layers", "rootfs": rootfs.Version, "compression": layer.Version},
		Materials: []attest.Material{
			document(SpecFile, in.Spec.sum),
			document(LockFile, hex.EncodeToString(sum[:])),
			document(in.Spec.Packages.Keyring, hex.EncodeToString(keyring[:])),
			{Name: "InRelease", Type: attest.TypeFile, URI: "dists/" + in.Lock.Debian.Suite + "/InRelease",
				Digests: map[string]string{"sha256": in.Lock.Debian.InRelease}, Proofs: []string{string(upstream.Signature)}},
		}}
	for _, p := range in.packages() {
		r.Materials = append(r.Materials, in.packageMaterial(p, system.Licenses[p.Name]))
	}
	for _, b := range blobs {
		m := attest.Material{Name: path.Base(b.Path), Version: in.Lock.Upstream.Version, Arch: in.Platform.Architecture,
			Type: attest.TypeFile, URI: b.Path, Digests: map[string]string{"sha256": b.SHA256, "sha512": b.SHA512}}
		for _, proof := range b.Proofs {
			m.Proofs = append(m.Proofs, string(proof))
		}
		r.Materials = append(r.Materials, m)
	}
	for i, f := range node.Files {
		source := in.Spec.Upstream.Files[i].source(in.Lock.Upstream.Version, in.Platform.Architecture)
		r.Materials = append(r.Materials, attest.Material{Name: path.Base(f.Path), Version: in.Lock.Upstream.Version,
			Arch: in.Platform.Architecture, Type: attest.TypeBinary, License: kubernetesLicense, Source: path.Base(source), Path: f.Path,
			Digests: map[string]string{"sha256": f.SHA256}, Modules: f.Modules, GoVersion: f.GoVersion})
	}
	return r, nil
}

// kubernetesLicense is the licence of Kubernetes' own programs. Their modules have others.
const kubernetesLicense = "Apache-2.0"

func document(name, sha256 string) attest.Material {
	return attest.Material{Name: name, Type: attest.TypeFile, Digests: map[string]string{"sha256": sha256}}
}

// packageMaterial describes a Debian package. What the lock pins has been found
// there by the suite's signature, hence the proofs.
func (in Input) packageMaterial(p LockedPackage, license string) attest.Material {
	qualifiers := packageurl.QualifiersFromMap(map[string]string{"arch": p.Architecture, "distro": in.Lock.distribution(in.Platform.String())})
	return attest.Material{Name: p.Name, Version: p.Version, Arch: p.Architecture, Type: attest.TypeDeb,
		PURL: packageurl.NewPackageURL(packageurl.TypeDebian, "debian", p.Name, p.Version, qualifiers, "").ToString(),
		URI:  p.Path, License: license, Source: p.Source + " " + p.SourceVersion,
		Digests: map[string]string{"sha256": p.SHA256}, Proofs: []string{string(upstream.Pinned)}}
}

// distribution is how vulnerability databases name the release: "debian-13". Its
// number is that of base-files (Debian 13.1 has base-files 13.8+deb13u1); without it, the codename.
func (l *Lock) distribution(platform string) string {
	for _, p := range l.Debian.Packages[platform] {
		if p.Name == "base-files" {
			number, _, _ := strings.Cut(p.Version, ".")
			return "debian-" + number
		}
	}
	return "debian-" + l.Debian.Codename
}
