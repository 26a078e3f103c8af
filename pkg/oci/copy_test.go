package oci_test

import (
	"errors"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

func repository(t *testing.T, name string) *oci.Repository {
	t.Helper()
	r, err := newClient().Repository(name)
	check(t, err)
	return r
}

// M19, M20: everything that belongs to a release arrives, byte for byte,
// whatever kind of place it comes from and goes to.
func TestCopyBringsEverythingThatBelongsToIt(t *testing.T) {
	place := map[string]func() string{
		"API": func() string { return imgtest.StartRegistry(t, imgtest.RegistryOptions{}).Host() + "/k" },
		"fallback": func() string {
			return imgtest.StartRegistry(t, imgtest.RegistryOptions{NoReferrers: true}).Host() + "/k"
		},
		"layout": func() string { return "oci:" + filepath.Join(t.TempDir(), "dist") },
	}
	f := newFixture(t, 1000)
	for from := range place {
		for to := range place {
			t.Run(from+" to "+to, func(t *testing.T) {
				src, dst := repository(t, place[from]()), repository(t, place[to]())
				_, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: src.String()})
				check(t, err)
				first, err := src.Referrers(t.Context(), f.digest(t))
				check(t, err)

				receipt, err := newClient().Copy(t.Context(), src, f.digest(t), dst, oci.CopyOptions{})
				check(t, err)
				if receipt.Uploaded == 0 || receipt.Bytes == 0 || len(receipt.Tags) > 0 || receipt.Repository != dst.String() {
					t.Errorf("receipt: got %+v", receipt)
				}
				complete(t, newClient(), dst.String(), f)
				if _, err := dst.Resolve(t.Context(), "v1"); !oci.NotFound(err) {
					t.Errorf("got %v, want no tag before somebody sets it", err)
				}
				check(t, dst.Tag(t.Context(), "v1", f.digest(t)))
				complete(t, newClient(), dst.String(), f, "v1")
				same(t, src, dst, f, first)

				again, err := newClient().Copy(t.Context(), src, f.digest(t), dst, oci.CopyOptions{})
				if err != nil || again.Uploaded != 0 || again.Bytes != 0 {
					t.Errorf("again: got %+v, %v; want nothing to do", again, err)
				}
			})
		}
	}
}

func same(t *testing.T, src, dst *oci.Repository, f *fixture, referrers []v1.Descriptor) {
	t.Helper()
	for _, d := range append(f.parts(t), referrers...) {
		a, err := src.Manifest(t.Context(), d.Digest)
		check(t, err)
		b, err := dst.Manifest(t.Context(), d.Digest)
		check(t, err)
		if string(a.Body) != string(b.Body) || a.Descriptor.MediaType != b.Descriptor.MediaType {
			t.Errorf("%s: its bytes or its type differ", d.Digest)
		}
	}
}

// A referrer of a referrer (a signature of an SBOM) comes along.
func TestCopyFollowsReferrersOfReferrers(t *testing.T) {
	src := repository(t, imgtest.StartRegistry(t, imgtest.RegistryOptions{}).Host()+"/k")
	dst := repository(t, imgtest.StartRegistry(t, imgtest.RegistryOptions{NoReferrers: true}).Host()+"/k")
	f := newFixture(t, 100)
	_, err := newClient().Publish(t.Context(), f.release(t), oci.Destination{Repository: src.String()})
	check(t, err)
	sbom, err := src.Referrers(t.Context(), f.digest(t))
	check(t, err)
	m, err := src.Manifest(t.Context(), sbom[0].Digest)
	check(t, err)
	img := attachment(t, m.Descriptor, "application/vnd.example.countersignature", "")
	_, err = newClient().Publish(t.Context(), oci.Release{Subject: img}, oci.Destination{Repository: src.String()})
	check(t, err)

	_, err = newClient().Copy(t.Context(), src, f.digest(t), dst, oci.CopyOptions{})
	check(t, err)
	list, err := dst.Referrers(t.Context(), sbom[0].Digest)
	if err != nil || len(list) != 1 || list[0].ArtifactType != "application/vnd.example.countersignature" {
		t.Errorf("got %v, %v; want the countersignature", list, err)
	}
}

// M04, M05 and the rest of what a source may do: nothing is half copied in
// silence, and what could not be asked is not taken for nothing.
func TestCopyFromABadSource(t *testing.T) {
	f := newFixture(t, 100)
	child := f.parts(t)[1].Digest.String()
	for name, tt := range map[string]struct {
		fault imgtest.Fault
		want  func(error) bool
	}{
		"child missing":     {imgtest.Fault{Path: "/manifests/" + child, Status: 404}, oci.NotFound},
		"child of others":   {imgtest.Fault{Path: "/manifests/" + child, Edit: func(a *imgtest.Answer) { a.Body[9] ^= 1 }}, isDigestError},
		"blob of others":    {imgtest.Fault{Method: "GET", Path: "/blobs/", Edit: func(a *imgtest.Answer) { a.Body[0] ^= 1 }}, isDigestError},
		"blob missing":      {imgtest.Fault{Method: "GET", Path: "/blobs/", Status: 404}, oci.NotFound},
		"blob cut":          {imgtest.Fault{Method: "GET", Path: "/blobs/", Cut: 1}, oci.Unreachable},
		"list not known":    {imgtest.Fault{Path: "/referrers/", Status: 503}, oci.Unreachable},
		"tag not known":     {imgtest.Fault{Path: ".sig", Status: 503}, oci.Unreachable},
		"everything denied": {imgtest.Fault{Status: 403}, oci.Denied},
	} {
		t.Run(name, func(t *testing.T) {
			reg, src, f := published(t, imgtest.RegistryOptions{}, 100)
			to := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			dst := repository(t, to.Host()+"/k")
			reg.On(tt.fault)
			_, err := newClient().Copy(t.Context(), src, f.digest(t), dst, oci.CopyOptions{})
			if !tt.want(err) || !strings.Contains(err.Error(), src.String()) || !strings.Contains(err.Error(), dst.String()) {
				t.Errorf("got %v", err)
			}
			reg.Heal()
			_, err = newClient().Copy(t.Context(), src, f.digest(t), dst, oci.CopyOptions{})
			check(t, err)
			complete(t, newClient(), dst.String(), f)
		})
	}
}

func isDigestError(err error) bool {
	var de *oci.DigestError
	return errors.As(err, &de)
}

// What is listed without being there, or refers to something else, is left out.
func TestCopyLeavesOutWhatIsNoReferrer(t *testing.T) {
	reg, src, f := published(t, imgtest.RegistryOptions{}, 100)
	list, err := src.Referrers(t.Context(), f.parts(t)[1].Digest)
	check(t, err)
	gone := v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: 9, Digest: digestOf([]byte("gone"))}
	reg.On(imgtest.Fault{ // the fallback tag, which this registry does not have
		Method: "GET", Path: "/manifests/sha256-" + f.digest(t).Hex + "$",
		Status: 200, Body: indexOf(t, gone, list[0]), Header: http.Header{"Content-Type": {indexType}},
	})
	dst := repository(t, imgtest.StartRegistry(t, imgtest.RegistryOptions{}).Host()+"/k")
	_, err = newClient().Copy(t.Context(), src, f.digest(t), dst, oci.CopyOptions{})
	check(t, err)
	complete(t, newClient(), dst.String(), f)
}

func TestPreparingCopiesChangesNothing(t *testing.T) {
	_, src, f := published(t, imgtest.RegistryOptions{}, 100)
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	dst := repository(t, reg.Host()+"/k")
	plan := func() []oci.Step {
		copies, err := newClient().PrepareCopies(t.Context(), src, f.digest(t), oci.CopyOptions{}, dst)
		check(t, err)
		steps, err := copies.Steps(0)
		check(t, err)
		return steps
	}
	steps := plan()
	if len(steps) == 0 || steps[0].Done || steps[0].Repository != dst.String() || len(reg.Writes()) > 0 {
		t.Errorf("got %d steps and %d writes", len(steps), len(reg.Writes()))
	}
	_, err := newClient().Copy(t.Context(), src, f.digest(t), dst, oci.CopyOptions{})
	check(t, err)
	for _, s := range plan() {
		if !s.Done {
			t.Errorf("not done: %+v", s)
		}
	}
	if _, err := newClient().PrepareCopies(t.Context(), src, f.digest(t), oci.CopyOptions{}, src); err == nil {
		t.Error("a copy onto itself was planned")
	}
}
