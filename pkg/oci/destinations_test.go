package oci_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// other publishes something else under the tag.
func other(t *testing.T, repository, tag string) v1.Hash {
	t.Helper()
	f := newFixture(t, 77)
	receipts, err := newClient().Publish(t.Context(), oci.Release{Subject: f.index, Tags: []string{tag}}, oci.Destination{Repository: repository})
	check(t, err)
	return receipts[0].Digest
}

// M18: a tag with another digest is found before anything is uploaded, at any
// destination, and everything stays as it was.
func TestTagThatPointsElsewhereStopsBeforeAnUpload(t *testing.T) {
	a := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	b := imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.2:0"})
	was := other(t, b.Host()+"/k", "v1")
	a.Forget()
	b.Forget()
	f := newFixture(t, 100)
	to := []oci.Destination{{Repository: a.Host() + "/k"}, {Repository: b.Host() + "/k"}}

	receipts, err := newClient().Publish(t.Context(), f.release(t, "v1"), to...)
	var changed *oci.Changed
	if !errors.As(err, &changed) || changed.Got != was || changed.Want != f.digest(t) || changed.Tag != "v1" || changed.Repository != b.Host()+"/k" {
		t.Fatalf("got %v, want a *Changed from %s to %s", err, was, f.digest(t))
	}
	if w := append(a.Writes(), b.Writes()...); len(w) > 0 {
		t.Errorf("got writes: %v", w)
	}
	if receipts[0].Err == nil || receipts[1].Err == nil || strings.Contains(err.Error(), a.Host()) {
		t.Errorf("receipts %v, %v; error %v: want the fault with %s only", receipts[0].Err, receipts[1].Err, err, b.Host())
	}

	r := f.release(t, "v1")
	r.Overwrite = "a test"
	_, err = newClient().Publish(t.Context(), r, to...)
	check(t, err)
	for _, d := range to {
		complete(t, newClient(), d.Repository, f, "v1")
	}
}

// A tag that somebody moves while we upload is found before we move it.
func TestTagThatMovesMeanwhileIsNotOverwritten(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	f, name := newFixture(t, 100), reg.Host()+"/k"
	r := f.release(t, "v1")
	var was v1.Hash
	r.Check = func(context.Context, *oci.Repository, v1.Hash) error { was = other(t, name, "v1"); return nil }
	_, err := newClient().Publish(t.Context(), r, oci.Destination{Repository: name})
	var changed *oci.Changed
	if !errors.As(err, &changed) || changed.Got != was {
		t.Errorf("got %v, want a *Changed from %s", err, was)
	}
	repo, err := newClient().Repository(name)
	check(t, err)
	if d, err := repo.Resolve(t.Context(), "v1"); err != nil || d.Digest != was {
		t.Errorf("the tag is at %s, %v; want %s", d.Digest, err, was)
	}
}

// R32: an immutable tag that is where it should be is done; elsewhere it is changed.
func TestImmutableTag(t *testing.T) {
	for _, status := range []int{409, 400, 403} {
		reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
		f, name := newFixture(t, 100), reg.Host()+"/k"
		immutable := imgtest.Fault{Method: "PUT", Path: "/manifests/v1", Status: status, Body: `{"errors":[{"code":"TAG_IMMUTABLE","message":"tag is immutable"}]}`}

		r := f.release(t, "v1") // somebody else publishes the same at the last moment
		r.Check = func(context.Context, *oci.Repository, v1.Hash) error {
			_, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: name})
			check(t, err)
			reg.On(imgtest.Fault{Method: "HEAD", Path: "/manifests/v1", Status: 404, Times: 1}) // we look a moment too early
			reg.On(immutable)
			return nil
		}
		_, err := newClient().Publish(t.Context(), r, oci.Destination{Repository: name})
		if err != nil {
			t.Errorf("%d, same digest: got %v, want it done", status, err)
		}
		if w := reg.Writes(); w[len(w)-1].Status != status {
			t.Errorf("%d: the last write is %s, want it refused", status, w[len(w)-1])
		}

		r = newFixture(t, 99).release(t, "v1")
		r.Overwrite = "a test"
		_, err = newClient().Publish(t.Context(), r, oci.Destination{Repository: name})
		var changed *oci.Changed
		if !errors.As(err, &changed) || !strings.Contains(err.Error(), "immutable") {
			t.Errorf("%d, other digest: got %v, want a *Changed that says why", status, err)
		}
	}
}

// No tag moves anywhere before every required destination has passed.
func TestRequiredDestinationHoldsAllTags(t *testing.T) {
	for name, fault := range map[string]imgtest.Fault{
		"dead":                   {Drop: true},
		"dies at the signatures": {Method: "PUT", Path: ".sig", Status: 503},
		"loses a blob":           {Method: "PUT", Path: "/blobs/uploads/", Status: 500},
		"lies at the check":      {Method: "GET", Path: "/manifests/sha256:", Edit: func(a *imgtest.Answer) { a.Body = append(a.Body, ' ') }},
		"is read-only":           {Method: "POST", Status: 405},
	} {
		t.Run(name, func(t *testing.T) {
			a := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			b := imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.2:0"})
			f := newFixture(t, 100)
			dir := "oci:" + filepath.Join(t.TempDir(), "dist")
			to := []oci.Destination{{Repository: a.Host() + "/k"}, {Repository: b.Host() + "/k"}, {Repository: dir, BestEffort: true}}
			b.On(fault)
			receipts, err := newClient().Publish(t.Context(), f.release(t, "v1"), to...)
			if err == nil || !strings.HasPrefix(err.Error(), b.Host()+"/k: ") || strings.Contains(err.Error(), a.Host()) {
				t.Fatalf("got %v, want what happened at %s", err, b.Host())
			}
			for i, r := range receipts {
				if len(r.Tags) > 0 || r.Err == nil || r.Repository != to[i].Repository {
					t.Errorf("receipt %+v: want no tags and an error", r)
				}
			}
			for _, q := range append(a.Writes(), b.Writes()...) {
				if strings.HasSuffix(q.Path, "/manifests/v1") {
					t.Errorf("a tag was written: %s", q)
				}
			}
			b.Heal()
			_, err = newClient().Publish(t.Context(), f.release(t, "v1"), to...)
			check(t, err)
			for _, d := range to {
				complete(t, newClient(), d.Repository, f, "v1")
			}
		})
	}
}

func TestBestEffortDestinationHoldsNothing(t *testing.T) {
	a := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	b := imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.2:0"})
	b.Down()
	f := newFixture(t, 100)
	receipts, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: a.Host() + "/k"}, oci.Destination{Repository: b.Host() + "/k", BestEffort: true})
	check(t, err)
	complete(t, newClient(), a.Host()+"/k", f, "v1")
	if !oci.Unreachable(receipts[1].Err) || len(receipts[1].Tags) > 0 {
		t.Errorf("got %+v, want an unreachable one in the receipt", receipts[1])
	}
}

// A destination that hangs delays no other one's upload.
func TestSlowDestinationStallsNoOther(t *testing.T) {
	a := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	b := imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.2:0"})
	f := newFixture(t, 6<<20) // more than the window
	wait := make(chan struct{})
	b.On(imgtest.Fault{Method: "PUT", Path: "/blobs/uploads/", Wait: wait})
	r := f.release(t, "v1")
	r.Check = func(ctx context.Context, repo *oci.Repository, _ v1.Hash) error {
		if repo.String() == a.Host()+"/k" {
			close(wait) // a has everything, while b is at its first blob
		}
		return nil
	}
	to := []oci.Destination{{Repository: a.Host() + "/k"}, {Repository: b.Host() + "/k"}}
	_, err := newClient().Publish(t.Context(), r, to...)
	check(t, err)
	for _, d := range to {
		complete(t, newClient(), d.Repository, f, "v1")
	}
}

func TestCheckDecides(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	f, name := newFixture(t, 100), reg.Host()+"/k"
	refused := errors.New("nobody signed it")
	r := f.release(t, "v1")
	var saw v1.Hash
	r.Check = func(ctx context.Context, repo *oci.Repository, h v1.Hash) error {
		saw = h
		list, err := repo.Referrers(ctx, h)
		if err != nil || len(list) != 2 {
			t.Errorf("at the check: got %d referrers, %v; want all there", len(list), err)
		}
		if _, err := repo.Resolve(ctx, "v1"); !oci.NotFound(err) {
			t.Errorf("at the check: the tag is there already, %v", err)
		}
		return refused
	}
	_, err := newClient().Publish(t.Context(), r, oci.Destination{Repository: name})
	if !errors.Is(err, refused) || saw != f.digest(t) {
		t.Errorf("got %v about %s, want the refusal", err, saw)
	}
	repo, err := newClient().Repository(name)
	check(t, err)
	if _, err := repo.Resolve(t.Context(), "v1"); !oci.NotFound(err) {
		t.Errorf("got %v, want no tag", err)
	}
}

// A release that could not be whole is refused before anybody is asked.
func TestReleaseMustBeWhole(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	f := newFixture(t, 10)
	to := []oci.Destination{{Repository: reg.Host() + "/k"}}
	foreign := v1.Descriptor{MediaType: types.OCIImageIndex, Size: 5, Digest: digestOf([]byte("other"))}
	for name, tt := range map[string]struct {
		edit func(*oci.Release)
		to   []oci.Destination
		want string
	}{
		"attachment of something else": {func(r *oci.Release) {
			r.Attachments[0] = oci.Attachment{Subject: foreign.Digest, Image: attachment(t, foreign, "a/b", "")}
		}, to, "a part of the release"},
		"attachment that says otherwise": {func(r *oci.Release) { r.Attachments[0].Subject = f.parts(t)[1].Digest }, to, "subject: got"},
		"no attachment":                  {func(r *oci.Release) { r.Attachments[0].Image = nil }, to, "no image"},
		"bad tag":                        {func(r *oci.Release) { r.Tags = []string{"a/b"} }, to, "tag: got"},
		"nothing":                        {func(r *oci.Release) { r.Subject = nil }, to, "want an image or an index"},
		"no destination":                 {func(r *oci.Release) {}, nil, "no destination"},
		"one twice":                      {func(r *oci.Release) {}, append(to, to...), "twice"},
		"bad name":                       {func(r *oci.Release) {}, []oci.Destination{{Repository: "QUAY.IO/a"}}, "lower-case"},
		"manifest above 4 MiB": { // R16
			func(r *oci.Release) {
				r.Subject = mutate.Annotations(f.index, map[string]string{"x": strings.Repeat("x", oci.MaxManifest)}).(v1.ImageIndex)
				r.Attachments, r.Signatures = nil, nil
			}, to, "want at most"},
		"signature of something else": {func(r *oci.Release) {
			r.Signatures = func(context.Context, string) (map[string]v1.Image, error) {
				return map[string]v1.Image{"sha256-" + foreign.Digest.Hex + ".sig": legacySignature(t, "a", foreign.Digest, "x")}, nil
			}
		}, to, "no signature of a part of the release"},
		"no key": {func(r *oci.Release) {
			r.Signatures = func(context.Context, string) (map[string]v1.Image, error) { return nil, errors.New("no key") }
		}, to, "no key"},
	} {
		t.Run(name, func(t *testing.T) {
			r := f.release(t, "v1")
			tt.edit(&r)
			_, err := newClient().Publish(t.Context(), r, tt.to...)
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(reg.Writes()) > 0 {
				t.Errorf("got %v and %d writes, want %q", err, len(reg.Writes()), tt.want)
			}
		})
	}
}

// A signature by somebody else stays, and ours is added once.
func TestSignatureIsAddedToThoseThatAreThere(t *testing.T) {
	for name, o := range map[string]string{"registry": imgtest.StartRegistry(t, imgtest.RegistryOptions{}).Host() + "/k", "layout": "oci:" + filepath.Join(t.TempDir(), "dist")} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 100)
			signed := func(by string) oci.Release {
				r := f.release(t)
				r.Signatures = func(_ context.Context, repository string) (map[string]v1.Image, error) {
					return map[string]v1.Image{"sha256-" + f.digest(t).Hex + ".sig": legacySignature(t, repository, f.digest(t), by)}, nil
				}
				return r
			}
			for _, by := range []string{"alice", "bob", "alice", "bob"} {
				_, err := newClient().Publish(t.Context(), signed(by), oci.Destination{Repository: o})
				check(t, err)
			}
			repo, err := newClient().Repository(o)
			check(t, err)
			d, err := repo.Resolve(t.Context(), "sha256-"+f.digest(t).Hex+".sig")
			check(t, err)
			m, err := repo.Manifest(t.Context(), d.Digest)
			check(t, err)
			im, err := m.Image()
			check(t, err)
			var by []string
			for _, l := range im.Layers {
				by = append(by, l.Annotations["dev.cosignproject.cosign/signature"])
				if _, err := repo.ReadBlob(t.Context(), l, 1000); err != nil {
					t.Error(err)
				}
			}
			if fmt.Sprint(by) != "[by alice by bob]" {
				t.Errorf("got %v, want alice's and bob's, each once", by)
			}
			config, err := repo.ReadBlob(t.Context(), im.Config, 1000)
			if err != nil || strings.Count(string(config), im.Layers[0].Digest.String()) != 2 {
				t.Errorf("configuration: got %s, %v; want a diff id for each layer", config, err)
			}
		})
	}
}
