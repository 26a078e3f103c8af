package attest

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Union returns index with the materials of all the platforms added to its own:
// what went into an image index is what went into its images.
func Union(index Record, platforms ...Record) Record {
	all := slices.Clone(index.Materials)
	for _, p := range platforms {
		all = append(all, p.Materials...)
	}
	index.Materials = sorted(all)
	return index
}

// sorted returns the materials in an order that depends on nothing but what
// they are, each once. Two that are the same bytes in the same role are one
// material, checked in both ways.
func sorted(materials []Material) []Material {
	all := slices.Clone(materials)
	slices.SortStableFunc(all, compare)
	var out []Material
	for _, m := range all {
		if n := len(out); n > 0 && compare(out[n-1], m) == 0 {
			out[n-1].Proofs = append(slices.Clone(out[n-1].Proofs), m.Proofs...)
			continue
		}
		out = append(out, m)
	}
	for i := range out {
		out[i].Proofs = slices.Compact(slices.Sorted(slices.Values(out[i].Proofs)))
	}
	return out
}

func compare(a, b Material) int {
	return cmp.Or(
		strings.Compare(a.Type, b.Type),
		strings.Compare(a.Name, b.Name),
		strings.Compare(a.Version, b.Version),
		strings.Compare(a.Arch, b.Arch),
		strings.Compare(a.Path, b.Path),
		strings.Compare(a.URI, b.URI),
		strings.Compare(digestKey(a.Digests), digestKey(b.Digests)),
	)
}

func digestKey(digests map[string]string) string {
	var b strings.Builder
	for _, algorithm := range slices.Sorted(maps.Keys(digests)) {
		fmt.Fprintf(&b, "%s:%s ", algorithm, digests[algorithm])
	}
	return b.String()
}

// check reports why a material cannot be attested: an input without a digest
// could be anything, and a malformed digest matches nothing.
func (m Material) check() error {
	if m.Name == "" {
		return fmt.Errorf("material of type %q has no name", m.Type)
	}
	if m.Type != TypeDeb && m.Type != TypeBinary && m.Type != TypeFile {
		return fmt.Errorf("material %s: type: got %q, want %s, %s or %s", m.Name, m.Type, TypeDeb, TypeBinary, TypeFile)
	}
	if len(m.Digests) == 0 {
		return fmt.Errorf("material %s: no digest", m.Name)
	}
	for algorithm, digest := range m.Digests {
		if err := checkDigest(algorithm, digest); err != nil {
			return fmt.Errorf("material %s: %w", m.Name, err)
		}
	}
	return nil
}

func checkDigest(algorithm, digest string) error {
	var want int
	switch algorithm {
	case "sha256":
		want = 64
	case "sha512":
		want = 128
	default:
		return fmt.Errorf("digest algorithm: got %q, want sha256 or sha512", algorithm)
	}
	if _, err := hex.DecodeString(digest); err != nil || len(digest) != want || strings.ToLower(digest) != digest {
		return fmt.Errorf("%s: got %.140q, want %d lower-case hexadecimal digits", algorithm, digest, want)
	}
	return nil
}

// hex returns the digest of the subject without its algorithm.
func (s Subject) hex() (string, error) {
	algorithm, digest, _ := strings.Cut(s.Digest, ":")
	if algorithm != "sha256" {
		return "", fmt.Errorf("subject %s: digest: got %.140q, want sha256:…", s.Name, s.Digest)
	}
	if err := checkDigest(algorithm, digest); err != nil {
		return "", fmt.Errorf("subject %s: %w", s.Name, err)
	}
	if s.Name == "" {
		return "", fmt.Errorf("subject %s has no name", s.Digest)
	}
	return digest, nil
}
