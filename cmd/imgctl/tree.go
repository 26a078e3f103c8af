package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/attest"
	"github.com/imgctl/imgctl/pkg/build/rebuild"
	"github.com/imgctl/imgctl/pkg/bundle"
	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
)

// treeNode is one manifest and what hangs on it.
type treeNode struct {
	Kind     string      `json:"kind"` // index, image, bundle, signature, SPDX, provenance, source, artifact
	Digest   string      `json:"digest"`
	Tag      string      `json:"tag,omitempty"`      // where a tag and no referrer leads to it
	Platform string      `json:"platform,omitempty"` // of an image in an index
	Machine  string      `json:"machine,omitempty"`  // of a bundle in an index: "fcos-worker"
	Type     string      `json:"type,omitempty"`     // artifact or predicate type
	Layers   []treeLayer `json:"layers,omitempty"`
	Signed   []vouching  `json:"signed,omitempty"` // of a signature or attestation: by whom, and who sees it
	Children []*treeNode `json:"children,omitempty"`
}

type treeLayer struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"` // bytes as stored
	Title     string `json:"title,omitempty"`
}

type treeCmd struct{ *app }

func newTree(a *app) *cobra.Command {
	c := &treeCmd{app: a}
	return &cobra.Command{
		Use:   "tree REF",
		Short: "Show what hangs on a reference: platforms, layers, signatures, attestations",
		Long: `Show what hangs on a reference, and which programs would see each signature and
attestation: "yes"; "recent", from releases of 2026 on; "asked", if they are told to
look at bundles; or not. Nothing is verified here: imgctl verify does that.`,
		Example: `  imgctl tree quay.io/poseidon/kubelet:v1.36.2
  imgctl tree oci:dist/kubelet:v1.36.2 --json`,
		Args: exactArgs(1, "a reference"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return wrapRef("tree", args[0], c.run(cmd.Context(), args[0]))
		},
	}
}

func (c *treeCmd) run(ctx context.Context, arg string) error {
	repo, h, err := c.resolve(ctx, c.registries(), arg)
	if err != nil {
		return err
	}
	w := treeWalk{repo: repo}
	root, err := w.node(ctx, h, 0)
	if err != nil {
		return err
	}
	switch c.output {
	case "json":
		return printJSON(c.stdout, struct {
			strict.Header
			Repository string    `json:"repository"`
			Tree       *treeNode `json:"tree"`
		}{header("Tree"), repo.String(), root})
	case "name":
		fmt.Fprintf(c.stdout, "%s@%s\n", repo, h)
		return nil
	}
	fmt.Fprintf(c.stdout, "%s@%s  %s\n", repo, h, root.Kind)
	printTree(c.stdout, root, "")
	return printSeen(c.stdout, root)
}

// resolve opens the repository of a reference and returns the digest it means.
func (a *app) resolve(ctx context.Context, reg *oci.Client, arg string) (*oci.Repository, v1.Hash, error) {
	ref, err := oci.ParseReference(arg)
	if err != nil {
		return nil, v1.Hash{}, usage(err)
	}
	repo, err := reg.Repository(ref.Repository)
	if err != nil {
		return nil, v1.Hash{}, err
	}
	if ref.Digest.Hex != "" {
		return repo, ref.Digest, nil
	}
	if ref.Tag == "" {
		ref.Tag = "latest"
	}
	d, err := repo.Resolve(ctx, ref.Tag)
	return repo, d.Digest, err
}

// treeWalk reads a graph of manifests. It follows at most maxTreeDepth levels.
type treeWalk struct{ repo *oci.Repository }

const maxTreeDepth = 4

func (w treeWalk) node(ctx context.Context, h v1.Hash, depth int) (*treeNode, error) {
	m, err := w.repo.Manifest(ctx, h)
	if err != nil {
		return nil, err
	}
	n := &treeNode{Kind: "image", Digest: h.String()}
	if m.IsIndex() {
		index, err := m.Index()
		if err != nil {
			return nil, err
		}
		n.Kind = "index"
		for _, d := range index.Manifests {
			child, err := w.node(ctx, d.Digest, depth+1)
			if err != nil {
				return nil, err
			}
			child.entry(d)
			n.Children = append(n.Children, child)
		}
	} else if err := w.describe(ctx, n, m); err != nil {
		return nil, err
	}
	if depth >= maxTreeDepth {
		return n, nil
	}
	attached, err := w.attached(ctx, h, depth)
	if n.Kind == "index" {
		ofIndex(attached)
	}
	n.Children = append(attached, n.Children...)
	return n, err
}

// entry fills in what an index says of the manifest.
func (n *treeNode) entry(d v1.Descriptor) {
	if d.Platform != nil {
		n.Platform = d.Platform.String()
	}
	if n.Type == "" && d.ArtifactType != "" { // as Flux has it: the type of the configuration
		n.Kind, n.Type = "artifact", d.ArtifactType
	}
	m := content.Machine{Family: d.Annotations[content.FamilyAnnotation], Role: d.Annotations[content.RoleAnnotation]}
	if m.Family != "" && m.Role != "" {
		n.Machine = m.String()
	}
}

// describe fills in what an image manifest says of itself.
func (w treeWalk) describe(ctx context.Context, n *treeNode, m *oci.Manifest) error {
	image, err := m.Image()
	if err != nil {
		return err
	}
	n.Type = image.ArtifactType
	if n.Type != "" {
		n.Kind = "artifact"
	}
	if p := image.Annotations[sign.PredicateTypeAnnotation]; p != "" {
		n.Type = p
	}
	if kind, ok := treeKinds[n.Type]; ok {
		n.Kind = kind
	}
	for _, l := range image.Layers {
		n.Layers = append(n.Layers, treeLayer{string(l.MediaType), l.Digest.String(), l.Size, l.Annotations["org.opencontainers.image.title"]})
	}
	n.Signed, err = w.vouchings(ctx, n.Type, image)
	return err
}

// treeKinds names the types that people meet.
var treeKinds = map[string]string{
	attest.PredicateSignature:  "signature",
	attest.PredicateSPDX:       "SPDX",
	attest.PredicateProvenance: "provenance",
	bundle.ArtifactType:        "bundle",
	rebuild.SourceType:         "source",
}

// attached returns the referrers of h and what the legacy tags lead to.
func (w treeWalk) attached(ctx context.Context, h v1.Hash, depth int) ([]*treeNode, error) {
	var out []*treeNode
	for _, tag := range []string{sign.LegacyTag(h), sign.LegacyAttestationTag(h)} {
		n, err := w.legacy(ctx, tag)
		if err != nil {
			return nil, err
		}
		if n != nil {
			out = append(out, n)
		}
	}
	referrers, err := w.repo.Referrers(ctx, h)
	if err != nil {
		return nil, err
	}
	for _, r := range referrers {
		n, err := w.node(ctx, r.Digest, depth+1)
		if err != nil {
			return nil, err
		}
		out = append(out, n)
	}
	// Registries list referrers in any order; what people compare has one.
	slices.SortStableFunc(out, func(a, b *treeNode) int {
		return cmp.Or(cmp.Compare(b.Kind, a.Kind), cmp.Compare(b.Tag, a.Tag), cmp.Compare(a.Digest, b.Digest))
	})
	return out, nil
}

func printTree(w io.Writer, n *treeNode, indent string) {
	rows := len(n.Layers) + len(n.Children)
	row := func(i int) (branch, below string) {
		if i == rows-1 {
			return indent + "└─ ", indent + "   "
		}
		return indent + "├─ ", indent + "│  "
	}
	i := 0
	for _, l := range n.Layers {
		branch, _ := row(i)
		fmt.Fprintf(w, "%slayer %s  %s  %s\n", branch, shortDigest(l.Digest), bytesText(l.Size), oneLine(l.Title))
		i++
	}
	for _, c := range n.Children {
		branch, below := row(i)
		label := c.Kind
		switch {
		case c.Platform != "":
			label = c.Platform
		case c.Machine != "":
			label = oneLine(c.Machine) + " " + c.Kind
		}
		fmt.Fprintf(w, "%s%s %s  %s\n", branch, label, shortDigest(c.Digest), c.Tag)
		printTree(w, c, below)
		i++
	}
}
