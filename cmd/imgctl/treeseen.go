package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

// vouching is one signature or attestation, as it describes itself.
type vouching struct {
	Signer    string            `json:"signer"`
	Layout    string            `json:"layout"` // bundle or legacy
	About     string            `json:"about"`  // predicate type
	Keyless   bool              `json:"keyless,omitempty"`
	Log       int               `json:"log,omitempty"` // version of the log that has it
	Timestamp bool              `json:"timestamp,omitempty"`
	SeenBy    map[string]string `json:"seenBy"` // yes, recent, asked or no
}

// consumers are the columns of the table.
var consumers = []string{"cosign 2", "cosign 3", "podman", "Flux", "Kyverno", "policy-controller"}

// seenBy says which programs see a signature, by their documentation:
//
//   - bundles: cosign 2.6 and 3; Flux since January 2026; Kyverno with type
//     SigstoreBundle; policy-controller with signatureFormat bundle;
//   - the older layout: all of them; podman and skopeo see signatures only, and
//     Flux asks for no attestation;
//   - a certificate in the older layout counts for nobody, unless told otherwise,
//     without an entry of Rekor v1, for which alone it has room.
func seenBy(v vouching) map[string]string {
	seen := map[string]string{"cosign 2": "yes", "cosign 3": "yes", "podman": "no", "Flux": "recent", "Kyverno": "asked", "policy-controller": "asked"}
	if v.Layout == "legacy" {
		for _, c := range consumers {
			seen[c] = "yes"
		}
	}
	if v.About != attest.PredicateSignature {
		seen["podman"], seen["Flux"] = "no", "no"
	}
	if v.Layout == "legacy" && v.Keyless && v.Log != 1 {
		for _, c := range consumers {
			seen[c] = "no"
		}
	}
	return seen
}

// ofIndex takes podman from those who see what is attached to an index: podman and
// skopeo look at the signatures of what they take from it, and never at its own.
func ofIndex(attached []*treeNode) {
	for _, n := range attached {
		for _, v := range n.Signed {
			if _, readable := v.SeenBy["podman"]; readable {
				v.SeenBy["podman"] = "no"
			}
		}
	}
}

// maxLook is how many bytes of a signature are read to describe it.
const maxLook = 16 << 20

// vouchings describes the signatures in an artifact; most artifacts hold none.
func (w treeWalk) vouchings(ctx context.Context, about string, image *v1.Manifest) ([]vouching, error) {
	var list []vouching
	for _, l := range image.Layers {
		mediaType := string(l.MediaType)
		legacy := mediaType == sign.PayloadMediaType || mediaType == sign.EnvelopeMediaType
		if !legacy && mediaType != sign.BundleMediaType {
			continue
		}
		body, err := w.repo.ReadBlob(ctx, l, maxLook)
		if err != nil {
			return nil, err
		}
		v := vouching{Layout: "bundle", About: about}
		look, err := sign.LookAt(body)
		if legacy {
			v.Layout, v.About = "legacy", l.Annotations["predicateType"]
			if mediaType == sign.PayloadMediaType {
				v.About = attest.PredicateSignature
			}
			look, err = sign.LookAtLegacy(mediaType, l.Annotations, body)
		}
		v.Signer, v.Keyless, v.Log, v.Timestamp = look.Signer, look.Keyless, look.Log, look.Timestamp
		v.SeenBy = seenBy(v)
		if err != nil { // somebody else's, which nobody can read
			v.Signer, v.SeenBy = "unreadable: "+oneLine(err.Error()), map[string]string{}
		}
		list = append(list, v)
	}
	return list, nil
}

// legacy describes what a legacy tag leads to, nil where there is none.
func (w treeWalk) legacy(ctx context.Context, tag string) (*treeNode, error) {
	d, err := w.repo.Resolve(ctx, tag)
	if oci.NotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	m, err := w.repo.Manifest(ctx, d.Digest)
	if err != nil {
		return nil, err
	}
	image, err := m.Image()
	if err != nil {
		return nil, err
	}
	n := &treeNode{Kind: "signature", Digest: d.Digest.String(), Tag: tag}
	if strings.HasSuffix(tag, ".att") {
		n.Kind = "attestations"
	}
	n.Signed, err = w.vouchings(ctx, "", image)
	return n, err
}

// printSeen prints who sees what: a row for each signature and attestation.
func printSeen(out io.Writer, root *treeNode) error {
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	rows := 0
	var walk func(n *treeNode, about string)
	walk = func(n *treeNode, about string) {
		if n.Platform != "" || n.Kind == "index" {
			about = n.Platform
			if about == "" {
				about = n.Kind
			}
		}
		for _, v := range n.Signed {
			if rows == 0 {
				fmt.Fprintf(t, "\nON\tWHAT\tLAYOUT\tBY\t%s\n", strings.ToUpper(strings.Join(consumers, "\t")))
			}
			rows++
			what := v.About
			if kind, ok := treeKinds[v.About]; ok {
				what = kind
			}
			fmt.Fprintf(t, "%s\t%s\t%s\t%s", about, oneLine(what), v.Layout, oneLine(v.Signer))
			for _, c := range consumers {
				fmt.Fprintf(t, "\t%s", orDash(strings.TrimPrefix(v.SeenBy[c], "no")))
			}
			fmt.Fprintln(t)
		}
		for _, c := range n.Children {
			walk(c, about)
		}
	}
	walk(root, root.Kind)
	return t.Flush()
}
