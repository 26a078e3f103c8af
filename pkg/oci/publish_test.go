package oci_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

const signatureType = "application/vnd.example.signature"

// blobLayer is a layer that counts how often it is opened and can change under
// the reader's feet.
type blobLayer struct {
	body    []byte // what was hashed
	now     []byte // what is read; nil: body
	opened  atomic.Int64
	read    atomic.Int64
	failing error
}

func newLayer(seed uint64, size int) *blobLayer {
	b := make([]byte, size)
	r := rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)})
	r.Read(b)
	return &blobLayer{body: b}
}

func (l *blobLayer) Digest() (v1.Hash, error)             { return digestOf(l.body), nil }
func (l *blobLayer) DiffID() (v1.Hash, error)             { return digestOf(l.body), nil }
func (l *blobLayer) Size() (int64, error)                 { return int64(len(l.body)), nil }
func (l *blobLayer) MediaType() (types.MediaType, error)  { return types.OCILayer, nil }
func (l *blobLayer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }
func (l *blobLayer) Compressed() (io.ReadCloser, error) {
	l.opened.Add(1)
	if l.failing != nil {
		return nil, l.failing
	}
	body := l.body
	if l.now != nil {
		body = l.now
	}
	return io.NopCloser(io.TeeReader(bytes.NewReader(body), counter{&l.read})), nil
}

type counter struct{ n *atomic.Int64 }

func (c counter) Write(p []byte) (int, error) { c.n.Add(int64(len(p))); return len(p), nil }

func digestOf(b []byte) v1.Hash {
	sum := sha256.Sum256(b)
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum[:])}
}

// fixture is a release of two platforms with a signature on the index and on
// each child, in both forms.
type fixture struct {
	index  v1.ImageIndex
	layers []*blobLayer
}

// newFixture makes layers of the given size, one shared and one of each platform.
func newFixture(t testing.TB, size int) *fixture {
	t.Helper()
	f := &fixture{layers: []*blobLayer{newLayer(1, size), newLayer(2, size), newLayer(3, size)}}
	var adds []mutate.IndexAddendum
	for i, arch := range []string{"amd64", "arm64"} {
		img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
		img, err := mutate.AppendLayers(img, f.layers[0], f.layers[i+1])
		check(t, err)
		img, err = mutate.ConfigFile(img, configOf(t, img, arch))
		check(t, err)
		adds = append(adds, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}}})
	}
	f.index = mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex), adds...)
	return f
}

func configOf(t testing.TB, img v1.Image, arch string) *v1.ConfigFile {
	t.Helper()
	c, err := img.ConfigFile()
	check(t, err)
	c = c.DeepCopy()
	c.OS, c.Architecture = "linux", arch
	return c
}

// parts are the descriptors of the index and of its children.
func (f *fixture) parts(t testing.TB) []v1.Descriptor {
	t.Helper()
	body, err := f.index.RawManifest()
	check(t, err)
	m, err := f.index.IndexManifest()
	check(t, err)
	return append([]v1.Descriptor{{MediaType: types.OCIImageIndex, Size: int64(len(body)), Digest: digestOf(body)}}, m.Manifests...)
}

func (f *fixture) digest(t testing.TB) v1.Hash { return f.parts(t)[0].Digest }

// release puts a signature and an SBOM on every part.
func (f *fixture) release(t testing.TB, tags ...string) oci.Release {
	t.Helper()
	r := oci.Release{Subject: f.index, Tags: tags}
	for _, d := range f.parts(t) {
		for _, kind := range []string{signatureType, "application/spdx+json"} {
			r.Attachments = append(r.Attachments, oci.Attachment{Subject: d.Digest, Image: attachment(t, d, kind, "of "+d.Digest.Hex)})
		}
	}
	r.Signatures = func(_ context.Context, repository string) (map[string]v1.Image, error) {
		m := make(map[string]v1.Image)
		for _, d := range f.parts(t) {
			m["sha256-"+d.Digest.Hex+".sig"] = legacySignature(t, repository, d.Digest, "imgctl")
		}
		return m, nil
	}
	return r
}

func attachment(t testing.TB, subject v1.Descriptor, kind, text string) v1.Image {
	t.Helper()
	img, err := artifact.Artifact{
		ArtifactType: kind, Subject: &subject, Annotations: map[string]string{"kind": kind},
		Layers: []artifact.Content{{MediaType: kind, Body: []byte(kind + " " + text)}},
	}.Image()
	check(t, err)
	return img
}

// legacySignature is an image as cosign writes it, with a configuration of its own.
func legacySignature(t testing.TB, repository string, h v1.Hash, signer string) v1.Image {
	t.Helper()
	payload := []byte(fmt.Sprintf(`{"critical":{"identity":{"docker-reference":%q},"image":{"docker-manifest-digest":%q}}}`, repository, h))
	img, err := artifact.Artifact{
		Config: artifact.Content{MediaType: string(types.OCIConfigJSON), Body: []byte(fmt.Sprintf(`{"architecture":"","os":"","rootfs":{"type":"layers","diff_ids":[%q]},"config":{}}`, digestOf(payload)))},
		Layers: []artifact.Content{{MediaType: "application/vnd.dev.cosign.simplesigning.v1+json", Body: payload,
			Annotations: map[string]string{"dev.cosignproject.cosign/signature": "by " + signer}}},
	}.Image()
	check(t, err)
	return img
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// noWait makes a client that does not pause between tries.
func newClient() *oci.Client {
	return &oci.Client{Retry: oci.Retry{Wait: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }}}
}

// registries runs a test with and without the referrers API.
func registries(t *testing.T, f func(t *testing.T, o imgtest.RegistryOptions)) {
	t.Run("referrers API", func(t *testing.T) { f(t, imgtest.RegistryOptions{}) })
	t.Run("fallback tag", func(t *testing.T) { f(t, imgtest.RegistryOptions{NoReferrers: true}) })
}

// complete fails the test unless repo holds the whole release, byte for byte.
func complete(t *testing.T, c *oci.Client, repository string, f *fixture, tags ...string) {
	t.Helper()
	ctx := t.Context()
	repo, err := c.Repository(repository)
	check(t, err)
	for _, tag := range tags {
		if d, err := repo.Resolve(ctx, tag); err != nil || d.Digest != f.digest(t) {
			t.Errorf("%s:%s: got %s, %v; want %s", repo, tag, d.Digest, err, f.digest(t))
		}
	}
	for _, d := range f.parts(t) {
		m, err := repo.Manifest(ctx, d.Digest)
		check(t, err)
		if !m.IsIndex() {
			im, err := m.Image()
			check(t, err)
			for _, l := range append(im.Layers, im.Config) {
				if _, err := repo.ReadBlob(ctx, l, 1<<30); err != nil {
					t.Error(err)
				}
			}
		}
		attachments(t, repo, d)
		sig, err := repo.Resolve(ctx, "sha256-"+d.Digest.Hex+".sig")
		check(t, err)
		if _, err := repo.Manifest(ctx, sig.Digest); err != nil {
			t.Error(err)
		}
	}
}

// attachments fails the test unless the part has its two referrers, described
// as the specification says.
func attachments(t *testing.T, repo *oci.Repository, d v1.Descriptor) {
	t.Helper()
	list, err := repo.Referrers(t.Context(), d.Digest)
	check(t, err)
	var kinds []string
	for _, r := range list {
		kinds = append(kinds, r.ArtifactType)
		if r.Annotations["kind"] != r.ArtifactType {
			t.Errorf("referrer of %s: annotations: got %v, want those of its manifest", d.Digest, r.Annotations)
		}
		m, err := repo.Manifest(t.Context(), r.Digest)
		check(t, err)
		im, err := m.Image()
		check(t, err)
		if im.Subject == nil || im.Subject.Digest != d.Digest {
			t.Errorf("referrer %s: got subject %v, want %s", r.Digest, im.Subject, d.Digest)
		}
	}
	slices.Sort(kinds)
	if want := []string{"application/spdx+json", signatureType}; !slices.Equal(kinds, want) {
		t.Errorf("%s: referrers of %s: got %v, want %v", repo, d.Digest, kinds, want)
	}
}

func TestPublishBringsTheWholeReleaseEverywhere(t *testing.T) {
	registries(t, func(t *testing.T, o imgtest.RegistryOptions) {
		a := imgtest.StartRegistry(t, o)
		o.Addr = "127.0.0.2:0"
		b := imgtest.StartRegistry(t, o)
		c, f := newClient(), newFixture(t, 3<<20)
		to := []oci.Destination{{Repository: a.Host() + "/kubelet"}, {Repository: b.Host() + "/org/kubelet"}, {Repository: "oci:" + filepath.Join(t.TempDir(), "dist")}}

		receipts, err := c.Publish(t.Context(), f.release(t, "v1", "latest"), to...)
		check(t, err)
		for i, r := range receipts {
			if r.Repository != to[i].Repository || r.Digest != f.digest(t) || r.Err != nil || !slices.Equal(r.Tags, []string{"latest", "v1"}) || r.Bytes < 9<<20 || r.Present != 0 {
				t.Errorf("receipt: got %+v", r)
			}
			complete(t, newClient(), to[i].Repository, f, "v1", "latest")
		}
		for i, l := range f.layers {
			if n := l.read.Load(); n != 3<<20 {
				t.Errorf("layer %d: read %d bytes for three destinations, want each once", i, n)
			}
		}
	})
}

func TestSecondPublishOnlyAsks(t *testing.T) {
	registries(t, func(t *testing.T, o imgtest.RegistryOptions) {
		reg := imgtest.StartRegistry(t, o)
		f, to := newFixture(t, 1000), oci.Destination{Repository: reg.Host() + "/kubelet"}
		_, err := newClient().Publish(t.Context(), f.release(t, "v1"), to)
		check(t, err)
		reg.Forget()
		receipts, err := newClient().Publish(t.Context(), f.release(t, "v1"), to)
		check(t, err)
		if w := reg.Writes(); len(w) > 0 {
			t.Errorf("got %d writes, the first %s; want none", len(w), w[0])
		}
		if r := receipts[0]; r.Uploaded != 0 || r.Bytes != 0 || r.Present == 0 || !slices.Equal(r.Tags, []string{"v1"}) {
			t.Errorf("receipt: got %+v, want nothing uploaded", r)
		}
	})
}

// C11: a plan writes nothing, names everything, and says what is done.
func TestPlanIsWhatPublishDoes(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	dir := filepath.Join(t.TempDir(), "dist")
	f, c := newFixture(t, 1000), newClient()
	to := []oci.Destination{{Repository: reg.Host() + "/kubelet"}, {Repository: "oci:" + dir}}
	before, err := c.Plan(t.Context(), f.release(t, "v1"), to...)
	check(t, err)
	if w := reg.Writes(); len(w) > 0 {
		t.Errorf("the plan wrote: %v", w)
	}
	if found, _ := filepath.Glob(dir); found != nil {
		t.Errorf("the plan made %s", dir)
	}
	verbs := map[string]int{}
	for _, s := range before {
		verbs[s.Verb]++
		if s.Done {
			t.Errorf("done before anything was: %+v", s)
		}
	}
	// For each of two: 3 layers, 2 configurations, 6 artifacts and their empty
	// configuration, 3 signatures and their configurations.
	if want := map[string]int{"upload": 36, "put": 6, "attach": 12, "sign": 6, "tag": 2}; fmt.Sprint(verbs) != fmt.Sprint(want) {
		t.Errorf("got %v, want %v", verbs, want)
	}
	_, err = c.Publish(t.Context(), f.release(t, "v1"), to...)
	check(t, err)
	after, err := c.Plan(t.Context(), f.release(t, "v1"), to...)
	check(t, err)
	if len(after) != len(before) {
		t.Errorf("got %d steps after, %d before", len(after), len(before))
	}
	for _, s := range after {
		if !s.Done {
			t.Errorf("not done after everything was: %+v", s)
		}
	}
}

// B11: a layer that changed after it was hashed fails the push.
func TestLayerThatChangedIsNotPublished(t *testing.T) {
	for name, change := range map[string]func(*blobLayer){
		"a bit":   func(l *blobLayer) { l.now = bytes.Clone(l.body); l.now[len(l.now)-1] ^= 1 },
		"shorter": func(l *blobLayer) { l.now = l.body[:len(l.body)-1] },
		"longer":  func(l *blobLayer) { l.now = append(bytes.Clone(l.body), 0) },
	} {
		t.Run(name, func(t *testing.T) {
			reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			f := newFixture(t, 2<<20)
			change(f.layers[1])
			dir := "oci:" + filepath.Join(t.TempDir(), "dist")
			_, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: reg.Host() + "/k"}, oci.Destination{Repository: dir})
			var de *oci.DigestError
			if !errors.As(err, &de) {
				t.Fatalf("got %v, want a *DigestError", err)
			}
			for _, q := range reg.Writes() {
				if strings.Contains(q.Path, "/manifests/v1") {
					t.Errorf("the tag was written: %s", q)
				}
			}
			repo, err := newClient().Repository(dir)
			check(t, err)
			if _, err := repo.Resolve(t.Context(), "v1"); !oci.NotFound(err) {
				t.Errorf("layout: got %v, want no tag", err)
			}
		})
	}
}
