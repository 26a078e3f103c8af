package oci

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"
)

// smallBlob is up to which size a blob costs a round trip more than bandwidth.
const smallBlob = 1 << 20

// prepare surveys the destination and tells the hub which blobs it will take.
func (d *delivery) prepare(ctx context.Context) error {
	d.repo.back.willWrite()
	if err := d.survey(ctx); err != nil {
		return err
	}
	d.claim()
	return nil
}

// claim tells the hub which blobs the destination will take.
func (d *delivery) claim() {
	for _, b := range d.missing {
		d.tickets[b.desc.Digest] = d.hub.expect(b)
	}
}

// settleAll tells the hub that nothing more will be taken.
func (d *delivery) settleAll() {
	for _, t := range d.tickets {
		t.settle()
	}
}

// bring brings everything that is missing, except the tags: blobs, then
// manifests with what they need before them, attachments and signatures. All of
// it is addressed by digest; until a tag moves nobody sees it by chance.
//
// Signature tags need nothing of what they sign. Nor do attachments: a manifest may
// come before its subject (distribution-spec, "Pushing Manifests with Subject").
// Both are small and many, and go while large layers take the line. Not so where
// a registry does not even answer for a subject that it lacks, or refuses.
func (d *delivery) bring(ctx context.Context) error {
	asideCtx, giveUp := context.WithCancel(ctx)
	d.giveUp = giveUp
	d.aside, d.asideCtx = errgroup.WithContext(asideCtx)
	err := d.bringAll(ctx)
	if err != nil {
		d.giveUp()
		d.aside.Wait() // err says why
	}
	return err
}

// later lets a tag settle beside all else; see [delivery.settled].
func (d *delivery) later(w *rewriting) {
	d.aside.Go(func() error {
		overwritten, err := w.settle(d.asideCtx)
		if overwritten {
			d.overwritten.Store(true)
		}
		return err
	})
}

// settled waits until all tags have settled.
func (d *delivery) settled() error {
	defer d.giveUp()
	return d.aside.Wait()
}

func (d *delivery) bringAll(ctx context.Context) error {
	evidence, content := d.divide()
	g, gctx := errgroup.WithContext(ctx)
	uploaded := make(chan struct{}) // the evidence is
	g.Go(func() error {
		if err := d.uploadAll(gctx, evidence); err != nil {
			return err
		}
		close(uploaded)
		return d.signAll(gctx)
	})
	g.Go(func() error {
		if err := d.uploadAll(gctx, content); err != nil {
			return err
		}
		if err := await(gctx, uploaded); err != nil { // a blob may be in both
			return err
		}
		for _, stage := range d.ship.content {
			if err := d.putAll(gctx, stage); err != nil {
				return err
			}
		}
		if d.early {
			return nil
		}
		return d.attachAll(gctx)
	})
	refused := false
	if d.early {
		g.Go(func() error {
			if err := await(gctx, uploaded); err != nil {
				return err
			}
			err := d.attachAll(gctx)
			if refused = isRefused(err); refused {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil || !refused {
		return err
	}
	return d.attachAll(ctx) // now that there is what they refer to
}

// isRefused reports whether a registry has answered that it does not want to.
func isRefused(err error) bool {
	var answer *statusError
	return errors.As(err, &answer) && answer.code/100 == 4
}

// await waits until done is closed.
func await(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// divide sorts the missing blobs into those of attachments and signatures, and
// those of nothing but the content.
func (d *delivery) divide() (evidence, content []source) {
	light := make(map[v1.Hash]bool)
	for _, p := range slices.Concat(slices.Concat(d.ship.attached...), slices.Collect(maps.Values(d.sign))) {
		for _, b := range p.blobs {
			light[b.desc.Digest] = true
		}
	}
	for _, b := range d.missing {
		if light[b.desc.Digest] {
			evidence = append(evidence, b)
		} else {
			content = append(content, b)
		}
	}
	return evidence, content
}

// signAll writes the signature tags that lack a signature.
func (d *delivery) signAll(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	for tag, p := range d.sign {
		g.Go(func() error { return d.addSignature(gctx, tag, p) })
	}
	return g.Wait()
}

// uploadAll sends missing blobs: the large ones share the bandwidth between a
// few, the small ones do not wait for them.
func (d *delivery) uploadAll(ctx context.Context, blobs []source) error {
	g, gctx := errgroup.WithContext(ctx)
	pool := func(limit int, blobs []source) {
		g.Go(func() error {
			h, hctx := errgroup.WithContext(gctx)
			h.SetLimit(limit)
			for _, b := range blobs {
				h.Go(func() error { return d.upload(hctx, b) })
			}
			return h.Wait()
		})
	}
	var small, large []source
	for _, b := range blobs {
		if b.desc.Size <= smallBlob {
			small = append(small, b)
		} else {
			large = append(large, b)
		}
	}
	// The largest first: it decides when the last one is done.
	slices.SortStableFunc(large, func(a, b source) int { return cmp.Compare(b.desc.Size, a.desc.Size) })
	pool(d.client.jobs(), large)
	pool(lookups, small)
	return g.Wait()
}

// upload sends one blob that the hub expects, unless it is found on the shelf.
func (d *delivery) upload(ctx context.Context, b source) error {
	t := d.tickets[b.desc.Digest]
	defer t.settle()
	at, first := d.client.shelf.claim(d.repo, b.desc.Digest)
	if first {
		err := d.send(ctx, b, t.open)
		at.done(err == nil)
		return err
	}
	t.settle() // nobody waits for us: if we read it, then alone
	taken, err := d.take(ctx, b, at)
	if taken || err != nil {
		return err
	}
	return d.send(ctx, b, func() (io.ReadCloser, error) {
		rc, err := b.open(ctx)
		if err != nil {
			return nil, err
		}
		return newVerifier(rc, b.desc, "blob "+b.desc.Digest.String()+" as it was read"), nil
	})
}

// send sends one blob.
func (d *delivery) send(ctx context.Context, b source, open func() (io.ReadCloser, error)) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	start := time.Now()
	err := d.repo.back.putBlob(ctx, b.desc, func() (io.ReadCloser, error) {
		rc, err := open()
		if err != nil {
			return nil, err
		}
		return &meter{ReadCloser: rc, client: d.client, event: Event{Repository: d.repo.name, Verb: "upload", Digest: b.desc.Digest, Total: b.desc.Size}}, nil
	})
	if err != nil {
		return err
	}
	d.sent(b.desc.Size)
	d.client.log().Info("uploaded", "repo", d.repo.name, "digest", b.desc.Digest, "bytes", b.desc.Size, "took", time.Since(start))
	return nil
}

// meter reports what is read through it.
type meter struct {
	io.ReadCloser
	client *Client
	event  Event
}

func (m *meter) Read(p []byte) (int, error) {
	n, err := m.ReadCloser.Read(p)
	if n > 0 {
		m.event.Done += int64(n)
		m.client.progress(m.event)
	}
	return n, err
}

// putAll puts the manifests of one stage that are missing.
func (d *delivery) putAll(ctx context.Context, stage []*parcel) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for _, p := range stage {
		if d.puts[p.digest()] {
			g.Go(func() error { return d.put(gctx, p, "put") })
		}
	}
	return g.Wait()
}

func (d *delivery) put(ctx context.Context, p *parcel, verb string) error {
	if err := d.repo.back.putManifest(ctx, p.digest().String(), p.manifest); err != nil {
		return d.refusal(p, err)
	}
	m := p.manifest.Descriptor
	d.sent(m.Size)
	d.client.progress(Event{Repository: d.repo.name, Verb: verb, Digest: m.Digest, Done: m.Size, Total: m.Size})
	d.client.log().Info("put", "repo", d.repo.name, "digest", m.Digest, "type", m.MediaType)
	return nil
}

// refusal names what a registry that knows only some types of content does not
// take: 400, 405 or 415, with or without a reason.
func (d *delivery) refusal(p *parcel, err error) error {
	var answer *statusError
	if !errors.As(err, &answer) || !slices.Contains([]int{http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusUnsupportedMediaType}, answer.code) {
		return err
	}
	what := p.listed.ArtifactType
	if p.subject == (v1.Hash{}) && what == "" {
		what = string(p.listed.MediaType)
	}
	return &fault{kind: unsupported, op: "put", object: what, err: fmt.Errorf("the registry of %s does not take it: %w", d.repo, err)}
}

// sent counts for the receipt.
func (d *delivery) sent(bytes int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.receipt.Uploaded++
	d.receipt.Bytes += bytes
}

// attachAll puts the missing attachments and sees to it that they are listed.
func (d *delivery) attachAll(ctx context.Context) error {
	for _, stage := range d.ship.attached {
		if err := d.putAll(ctx, stage); err != nil {
			return err
		}
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for subject, want := range d.attach {
		if len(want) > 0 {
			g.Go(func() error { return d.list(gctx, subject, want) })
		}
	}
	return g.Wait()
}

// check reads back what was brought, with the release's own check or ours, while
// tags that others may have written, too, are given the time to show that. What
// others overwrite at that very moment is read back once more.
func (d *delivery) check(ctx context.Context) error {
	if d.nothingToDo() {
		return d.settled()
	}
	err := d.readBack(ctx)
	if settled := d.settled(); settled != nil {
		return settled
	}
	if err != nil && d.overwritten.Load() {
		return d.readBack(ctx)
	}
	return err
}

func (d *delivery) readBack(ctx context.Context) error {
	if check := d.ship.check; check != nil {
		if err := check(ctx, d.repo, d.ship.root.digest()); err != nil {
			return fmt.Errorf("check %s@%s: %w", d.repo, d.ship.root.digest(), err)
		}
		return nil
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(lookups)
	for _, p := range slices.Concat(d.ship.stages()...) {
		g.Go(func() error { _, err := d.repo.Manifest(gctx, p.digest()); return err })
	}
	for subject, want := range bySubject(d.ship.attached) {
		g.Go(func() error {
			listed, err := d.repo.Referrers(gctx, subject)
			if err != nil {
				return err
			}
			for _, p := range want {
				if !lists(listed, p.digest()) {
					return &fault{kind: notFound, op: "read back", object: object(d.repo.name, subject.String()), err: fmt.Errorf("it does not list %s", p.digest())}
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// tag moves the tags, those of parts before those of the whole, or where there
// are none sees to it that the root stays.
func (d *delivery) tag(ctx context.Context) error {
	if len(d.tags) == 0 {
		return d.repo.back.keep(ctx, d.ship.root.manifest)
	}
	if len(d.move) > 0 {
		if err := d.commit(); err != nil {
			return err
		}
	}
	ofRoot := func(t tagging) bool { return t.parcel == d.ship.root }
	whole := max(0, slices.IndexFunc(d.move, ofRoot))
	for _, stage := range [][]tagging{d.move[:whole], d.move[whole:]} {
		g, gctx := errgroup.WithContext(ctx)
		for _, t := range stage {
			g.Go(func() error { return d.moveTag(gctx, t) })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	for _, t := range d.tags {
		d.receipt.Tags = append(d.receipt.Tags, t.tag)
	}
	slices.SortFunc(d.receipt.Replaced, func(a, b Replaced) int { return cmp.Compare(a.Tag, b.Tag) })
	return nil
}

func (d *delivery) moveTag(ctx context.Context, t tagging) error {
	m := t.parcel.manifest
	was, moved, err := d.repo.moveTo(ctx, t.tag, m, d.overwrite != "")
	if err != nil || !moved {
		return err
	}
	d.sent(0)
	if was != (v1.Hash{}) {
		d.mu.Lock()
		d.receipt.Replaced = append(d.receipt.Replaced, Replaced{t.tag, was})
		d.mu.Unlock()
	}
	d.client.progress(Event{Repository: d.repo.name, Verb: "tag", Digest: m.Descriptor.Digest, Done: 1, Total: 1})
	d.client.log().Info("tagged", "repo", d.repo.name, "tag", t.tag, "digest", m.Descriptor.Digest, "was", was)
	return nil
}
