package oci_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// Two registries behind lines of 20 ms each way and 400 Mbit/s.
const (
	lineDelay = 20 * time.Millisecond
	lineRate  = 400_000_000
)

// line starts a registry and the line to it.
func line(b *testing.B) string {
	b.Helper()
	reg := imgtest.StartRegistry(b, imgtest.RegistryOptions{})
	link, err := imgtest.NewLink("127.0.0.1:0", reg.Host(), lineDelay, lineRate)
	check(b, err)
	b.Cleanup(func() { link.Close() })
	return link.Host()
}

// benchRelease is two platforms, together 96 MiB, with attestations of three kinds
// and a legacy signature on each part.
func benchRelease(b *testing.B) (*fixture, oci.Release) {
	b.Helper()
	f := newFixture(b, 32<<20)
	r := f.release(b, "v1")
	for _, d := range f.parts(b) {
		text := string(make([]byte, 200<<10)) // an SBOM
		r.Attachments = append(r.Attachments, oci.Attachment{Subject: d.Digest, Image: attachment(b, d, "application/vnd.example.provenance", text)})
	}
	r.Check = func(ctx context.Context, repo *oci.Repository, h v1.Hash) error {
		return readEverything(ctx, repo, f.parts(b))
	}
	return f, r
}

// readEverything is what a verifier reads: manifests, what refers to them, its content.
func readEverything(ctx context.Context, repo *oci.Repository, parts []v1.Descriptor) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, d := range parts {
		g.Go(func() error { _, err := repo.Manifest(ctx, d.Digest); return err })
		g.Go(func() error {
			sig, err := repo.Resolve(ctx, "sha256-"+d.Digest.Hex+".sig")
			if err != nil {
				return err
			}
			return readContent(ctx, repo, sig.Digest)
		})
		g.Go(func() error {
			list, err := repo.Referrers(ctx, d.Digest)
			if err != nil {
				return err
			}
			h, ctx := errgroup.WithContext(ctx)
			for _, r := range list {
				h.Go(func() error { return readContent(ctx, repo, r.Digest) })
			}
			return h.Wait()
		})
	}
	return g.Wait()
}

func readContent(ctx context.Context, repo *oci.Repository, h v1.Hash) error {
	m, err := repo.Manifest(ctx, h)
	if err != nil {
		return err
	}
	im, err := m.Image()
	if err != nil {
		return err
	}
	for _, l := range im.Layers {
		if _, err := repo.ReadBlob(ctx, l, 1<<20); err != nil {
			return err
		}
	}
	return nil
}

// plainHTTP spares go-containerregistry the failed TLS handshake.
type plainHTTP struct{ http.RoundTripper }

func (p plainHTTP) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme = "http"
	return p.RoundTripper.RoundTrip(r)
}

// BenchmarkPublishToTwoRegistries measures a signed and read-back release to
// two registries against two runs of "crane push", which is remote.WriteIndex,
// of the bare image. The metric "of-crane" is to stay below 0.6.
func BenchmarkPublishToTwoRegistries(b *testing.B) {
	var ours, crane time.Duration
	for b.Loop() {
		f, r := benchRelease(b)
		one, two := line(b), line(b)

		start := time.Now()
		for _, host := range []string{one, two} {
			ref, err := name.ParseReference(host + "/crane:v1")
			check(b, err)
			check(b, remote.WriteIndex(ref, f.index, remote.WithTransport(plainHTTP{http.DefaultTransport.(*http.Transport).Clone()})))
		}
		crane += time.Since(start)

		start = time.Now()
		_, err := newClient().Publish(b.Context(), r, oci.Destination{Repository: one + "/k"}, oci.Destination{Repository: two + "/k"})
		check(b, err)
		ours += time.Since(start)
	}
	b.ReportMetric(ours.Seconds()/float64(b.N), "s/publish")
	b.ReportMetric(crane.Seconds()/float64(b.N), "s/two-crane-push")
	b.ReportMetric(ours.Seconds()/crane.Seconds(), "of-crane")
}

// BenchmarkPublishAgain measures a release that is there already.
func BenchmarkPublishAgain(b *testing.B) {
	_, r := benchRelease(b)
	to := []oci.Destination{{Repository: line(b) + "/k"}, {Repository: line(b) + "/k"}}
	_, err := newClient().Publish(b.Context(), r, to...)
	check(b, err)
	for b.Loop() {
		_, err := newClient().Publish(b.Context(), r, to...)
		check(b, err)
	}
	b.ReportMetric(b.Elapsed().Seconds()/float64(b.N), "s/publish")
}
