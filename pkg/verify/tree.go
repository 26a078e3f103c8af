package verify

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/pkg/oci"
)

// collector gathers, for one verification, content and what was said about it.
type collector struct {
	subject Subject
	rule    *Rule
	now     time.Time
	from    []*oci.Repository

	parts []*part // the subject, then the manifests that it names

	mu      sync.Mutex
	dead    map[*oci.Repository]bool // could not be asked
	unknown []error                  // what could not be asked, and why
	fetched atomic.Int64             // bytes of evidence
}

// part is a manifest of what is verified, with the evidence about it.
type part struct {
	name     string // "index", "manifest", "linux/arm64"
	manifest *oci.Manifest
	blobs    []v1.Descriptor // configuration and layers of an image
	seen     map[string]bool // evidence about which the last word was said
	findings []finding       // in the order in which the sources list them
}

func (p *part) digest() v1.Hash { return p.manifest.Descriptor.Digest }

func (p *part) String() string { return p.name + " " + p.digest().String() }

// fetchTree fetches the subject's manifest and those that it names.
func (c *collector) fetchTree(ctx context.Context) error {
	root, err := c.fetch(ctx, c.subject.Digest)
	if err != nil {
		return c.missing(ctx, "manifest", err)
	}
	if !root.IsIndex() {
		p, err := c.imagePart("manifest", root)
		c.parts = []*part{p}
		return err
	}
	c.parts = []*part{{name: "index", manifest: root}}
	index, err := root.Index()
	if err != nil {
		return c.refuse(Incomplete, "index", err)
	}
	if n := len(index.Manifests); n == 0 || n > maxChildren {
		return c.refuse(Incomplete, "index", fmt.Errorf("it names %d manifests, want 1 to %d", n, maxChildren))
	}
	return c.fetchChildren(ctx, index.Manifests)
}

func (c *collector) fetchChildren(ctx context.Context, entries []v1.Descriptor) error {
	children := make([]*part, len(entries))
	errs := make([]error, len(entries))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, d := range entries {
		g.Go(func() error {
			children[i], errs[i] = c.fetchChild(ctx, d)
			return nil
		})
	}
	_ = g.Wait() // the errors are in errs, by position
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	known := make(map[v1.Hash]bool)
	for _, p := range children {
		if !known[p.digest()] { // one manifest may serve two platforms
			c.parts = append(c.parts, p)
		}
		known[p.digest()] = true
	}
	return nil
}

func (c *collector) fetchChild(ctx context.Context, d v1.Descriptor) (*part, error) {
	name := "manifest " + d.Digest.String()
	if d.Platform != nil {
		name = printable(d.Platform.String())
	}
	m, err := c.fetch(ctx, d.Digest)
	if err != nil {
		return nil, c.missing(ctx, name, err)
	}
	if got := m.Descriptor; got.Size != d.Size || got.MediaType != d.MediaType {
		return nil, c.refuse(Mismatch, name, fmt.Errorf("got %d bytes of %s, the index says %d of %s", got.Size, got.MediaType, d.Size, printable(string(d.MediaType))))
	}
	return c.imagePart(name, m)
}

func (c *collector) imagePart(name string, m *oci.Manifest) (*part, error) {
	image, err := m.Image()
	if err != nil { // an index in an index is none, too
		return nil, c.refuse(Incomplete, name, err)
	}
	return &part{name: name, manifest: m, blobs: append(image.Layers, image.Config)}, nil
}

// fetch gets a manifest from the first source that has it unspoilt. The error
// joins what each source said.
func (c *collector) fetch(ctx context.Context, h v1.Hash) (*oci.Manifest, error) {
	var errs []error
	for _, source := range c.from {
		if c.isDead(source) {
			continue
		}
		m, err := source.Manifest(ctx, h)
		if err == nil {
			return m, nil
		}
		if classify(err) == unknown {
			c.bury(source, err)
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return nil, errNobodyLeft
	}
	return nil, joinErrors(errs)
}

// errNobodyLeft is replaced by what is in collector.unknown before anybody sees it.
var errNobodyLeft = errors.New("no source is left to ask")

// missing turns the sources' answers about a manifest that none could give
// into the error that they amount to.
func (c *collector) missing(ctx context.Context, name string, err error) error {
	if interrupted(ctx) {
		return fmt.Errorf("verify %s: %w", c.subject, context.Cause(ctx))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case len(c.unknown) > 0:
		return fmt.Errorf("verify %s: %s: %w", c.subject, name, joinErrors(c.unknown))
	case classify(err) == bad:
		return c.refuse(Mismatch, name, err)
	case name == "manifest": // the subject itself is nowhere
		return fmt.Errorf("verify %s: %w", c.subject, err)
	}
	return c.refuse(Incomplete, name, err)
}

func (c *collector) refuse(why Reason, part string, err error) *Refusal {
	return &Refusal{Subject: c.subject, Rule: c.rule.String(), Reason: why, Part: part, Err: err}
}

// interrupted reports whether the caller has given up. A deadline is another
// thing: what it cut off could not be asked in time.
func interrupted(ctx context.Context) bool { return errors.Is(ctx.Err(), context.Canceled) }

// bury remembers that a source could not be asked.
func (c *collector) bury(source *oci.Repository, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead == nil {
		c.dead = make(map[*oci.Repository]bool)
	}
	c.dead[source] = true
	c.unknown = append(c.unknown, err)
}

func (c *collector) isDead(source *oci.Repository) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead[source]
}
