package oci_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// three starts three registries on hosts of their own.
func three(t *testing.T) (regs []*imgtest.Registry, to []oci.Destination) {
	t.Helper()
	for i := range 3 {
		reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: fmt.Sprintf("127.0.0.%d:0", i+1), NoReferrers: i == 1})
		regs, to = append(regs, reg), append(to, oci.Destination{Repository: reg.Host() + "/k"})
	}
	return regs, to
}

func TestQuorumOfRequiredDestinationsMakesARelease(t *testing.T) {
	for name, tt := range map[string]struct {
		quorum int
		stands bool
	}{"two of three": {2, true}, "three of three": {3, false}, "all": {0, false}} {
		t.Run(name, func(t *testing.T) {
			regs, to := three(t)
			regs[2].On(imgtest.Fault{Method: "PUT", Path: ".sig", Status: 503})
			f := newFixture(t, 100)
			commits := 0
			receipts, err := newClient().PublishAll(t.Context(), oci.Transaction{
				Parts: []oci.Consignment{{Release: f.release(t, "v1"), To: to}}, Quorum: tt.quorum,
				Commit: func(context.Context) error { commits++; return nil },
			})
			if tt.stands != (err == nil) || tt.stands != (commits == 1) {
				t.Fatalf("got %v and %d commits, want it to stand: %t", err, commits, tt.stands)
			}
			if !oci.Unreachable(receipts[0][2].Err) || len(receipts[0][2].Tags) > 0 {
				t.Errorf("the one that fails: got %+v", receipts[0][2])
			}
			for i, r := range receipts[0][:2] {
				if tt.stands {
					complete(t, newClient(), to[i].Repository, f, "v1")
				} else if !oci.Held(r.Err) || len(r.Tags) > 0 {
					t.Errorf("one that did not fail: got %+v, want it held", r)
				}
			}
			regs[2].Heal()
			_, err = newClient().Publish(t.Context(), f.release(t, "v1"), to...)
			check(t, err)
			complete(t, newClient(), to[2].Repository, f, "v1")
		})
	}
}

// A quorum is for outages: a tag that points elsewhere stops everything.
func TestQuorumDoesNotOutvoteAChangedTag(t *testing.T) {
	regs, to := three(t)
	other(t, to[1].Repository, "v1")
	for _, r := range regs {
		r.Forget()
	}
	_, err := newClient().PublishAll(t.Context(), oci.Transaction{Parts: []oci.Consignment{{Release: newFixture(t, 100).release(t, "v1"), To: to}}, Quorum: 1})
	var changed *oci.Changed
	if !errors.As(err, &changed) || changed.Repository != to[1].Repository {
		t.Errorf("got %v, want a *Changed", err)
	}
	for _, r := range regs {
		if w := r.Writes(); len(w) > 0 {
			t.Errorf("got writes %v", w)
		}
	}
}

// Two parts stand or fall together: what one lacks at a destination holds the
// tags of the other there, and with it those everywhere.
func TestPartsOfATransactionShareTheirFate(t *testing.T) {
	a, b := imgtest.StartRegistry(t, imgtest.RegistryOptions{}), imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.2:0"})
	image, bundle := newFixture(t, 100), newFixture(t, 50)
	part := func(f *fixture, name string) oci.Consignment {
		r := f.release(t, "v1")
		r.PartTags = map[v1.Hash][]string{f.parts(t)[1].Digest: {"v1-amd64"}}
		return oci.Consignment{Release: r, To: []oci.Destination{{Repository: a.Host() + name}, {Repository: b.Host() + name}}}
	}
	parts := []oci.Consignment{part(image, "/k"), part(bundle, "/k-bundle")}
	b.On(imgtest.Fault{Method: "PUT", Path: "/v2/k-bundle/manifests/sha256:", Status: 500})
	_, err := newClient().PublishAll(t.Context(), oci.Transaction{Parts: parts})
	if err == nil || !strings.HasPrefix(err.Error(), b.Host()+"/k-bundle: ") {
		t.Fatalf("got %v, want what happened at %s", err, b.Host())
	}
	for _, q := range append(a.Writes(), b.Writes()...) {
		if strings.HasSuffix(q.Path, "/manifests/v1") {
			t.Errorf("a tag was written: %s", q)
		}
	}

	b.Heal()
	refused := errors.New("the disk with the journal is full")
	_, err = newClient().PublishAll(t.Context(), oci.Transaction{Parts: parts, Commit: func(context.Context) error { return refused }})
	if !errors.Is(err, refused) {
		t.Errorf("got %v, want that of Commit", err)
	}
	a.Forget()
	receipts, err := newClient().PublishAll(t.Context(), oci.Transaction{Parts: parts})
	check(t, err)
	for i, f := range []*fixture{image, bundle} {
		for j, r := range receipts[i] {
			complete(t, newClient(), parts[i].To[j].Repository, f, "v1")
			if fmt.Sprint(r.Tags) != "[v1-amd64 v1]" {
				t.Errorf("got tags %v", r.Tags)
			}
		}
	}
	var tags []string
	for _, q := range a.Writes() {
		tags = append(tags, q.Path[strings.LastIndex(q.Path, "/v2/"):])
	}
	if got, want := fmt.Sprint(tags), "[/v2/k/manifests/v1-amd64 /v2/k/manifests/v1 /v2/k-bundle/manifests/v1-amd64 /v2/k-bundle/manifests/v1]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// R30: a registry that shows the tag late is waited for; one that never does
// has not been published to.
func TestR30TagThatShowsLate(t *testing.T) {
	for name, tt := range map[string]struct {
		late int // looks that miss it; 0: all of them
		want string
	}{"at once": {-1, ""}, "after three looks": {3, ""}, "never": {0, "does not show it"}} {
		t.Run(name, func(t *testing.T) {
			reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			f, name := newFixture(t, 100), reg.Host()+"/k"
			r := f.release(t, "v1")
			r.Check = func(context.Context, *oci.Repository, v1.Hash) error {
				if tt.late >= 0 { // the look before it is written is the first
					reg.On(imgtest.Fault{Method: "HEAD", Path: "/manifests/v1", Skip: 1, Times: tt.late, Status: 404})
				}
				return nil
			}
			receipts, err := newClient().Publish(t.Context(), r, oci.Destination{Repository: name})
			if tt.want == "" {
				check(t, err)
				complete(t, newClient(), name, f, "v1")
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || len(receipts[0].Tags) > 0 {
				t.Errorf("got %v and tags %v, want %q", err, receipts[0].Tags, tt.want)
			}
		})
	}
}

// R38: a registry that does not take artifacts is named, with the type, and no
// tag moves.
func TestR38RefusedArtifactTypeIsNamed(t *testing.T) {
	f := newFixture(t, 100)
	for _, status := range []int{400, 405, 415} {
		reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
		name := reg.Host() + "/k"
		sbom := f.release(t).Attachments[1]
		h, err := sbom.Image.Digest()
		check(t, err)
		reg.On(imgtest.Fault{Method: "PUT", Path: "/manifests/" + h.String(), Status: status, Body: `{"errors":[{"code":"MANIFEST_INVALID","message":"unknown type"}]}`})
		_, err = newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: name})
		if err == nil || !oci.Unsupported(err) || !strings.Contains(err.Error(), "application/spdx+json") || !strings.Contains(err.Error(), reg.Host()) || !strings.Contains(err.Error(), "unknown type") {
			t.Errorf("%d: got %v, want registry, type and reason", status, err)
		}
		for _, q := range reg.Writes() {
			if strings.HasSuffix(q.Path, "/manifests/v1") {
				t.Errorf("a tag was written: %s", q)
			}
		}
		reg.Heal()
		_, err = newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: name})
		check(t, err)
	}
}

// R28: a blob that the registry has in another repository is mounted; whatever
// it answers instead, the blob gets there.
func TestR28MountFallsBackToUpload(t *testing.T) {
	const mount = "?from=k&mount="
	wrong := http.Header{"Docker-Content-Digest": {digestOf([]byte("other")).String()}, "Location": {"/v2/m/blobs/x"}}
	for name, tt := range map[string]struct {
		fault   *imgtest.Fault
		mounted bool
	}{
		"201":                        {nil, true},
		"202":                        {&imgtest.Fault{Status: 202, Header: http.Header{"Location": {"/v2/m/blobs/uploads/1"}}}, false},
		"404":                        {&imgtest.Fault{Status: 404}, false},
		"400":                        {&imgtest.Fault{Status: 400}, false},
		"401":                        {&imgtest.Fault{Status: 401}, false},
		"201 with another digest":    {&imgtest.Fault{Status: 201, Header: wrong}, false},
		"201 and the blob not there": {&imgtest.Fault{Status: 201, Header: http.Header{"Location": {"/v2/m/blobs/x"}}}, false},
	} {
		t.Run(name, func(t *testing.T) {
			reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			f, c := newFixture(t, 1000), newClient()
			_, err := c.Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: reg.Host() + "/k"})
			check(t, err)
			if tt.fault != nil {
				tt.fault.Method, tt.fault.Path = "POST", mount
				reg.On(*tt.fault)
			}
			reg.Forget()
			receipts, err := c.Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: reg.Host() + "/m"})
			check(t, err)
			complete(t, newClient(), reg.Host()+"/m", f, "v1")
			if tt.mounted != (receipts[0].Mounted >= 5) || !tt.mounted && receipts[0].Mounted > 0 {
				t.Errorf("got %d mounted, want mounts: %t", receipts[0].Mounted, tt.mounted)
			}
			uploads := 0
			for _, q := range reg.Writes() {
				if q.Method == "PUT" && strings.Contains(q.Path, "/blobs/uploads/") {
					uploads++
				}
			}
			// Legacy signatures name their repository: payload and configuration are its own.
			if tt.mounted && uploads > 6 {
				t.Errorf("got %d uploads, want those of the signatures only", uploads)
			}
		})
	}
}

// R28: what is pushed from one repository of a registry to another is not sent.
func TestR28MountsFromWhereItWasLoaded(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	f := newFixture(t, 1000)
	_, err := newClient().Publish(t.Context(), oci.Release{Subject: f.index}, oci.Destination{Repository: reg.Host() + "/k"})
	check(t, err)
	for _, known := range []bool{false, true} {
		c := newClient()
		from, err := c.Repository(reg.Host() + "/k")
		check(t, err)
		subject, err := from.Load(t.Context(), f.digest(t))
		check(t, err)
		r := oci.Release{Subject: subject}
		if known {
			r.From = from
		}
		receipts, err := c.Publish(t.Context(), r, oci.Destination{Repository: fmt.Sprintf("%s/known-%t", reg.Host(), known)})
		check(t, err)
		if (receipts[0].Mounted >= 4) != known { // two layers, two configurations
			t.Errorf("known %t: got %+v", known, receipts[0])
		}
	}
}

// Two repositories of one registry in one push: each blob is sent once. A
// second registry is not asked to mount from the first.
func TestR28MountsBetweenDestinationsOfOneRegistry(t *testing.T) {
	a, b := imgtest.StartRegistry(t, imgtest.RegistryOptions{}), imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.2:0"})
	f := newFixture(t, 1<<20)
	to := []oci.Destination{{Repository: a.Host() + "/k"}, {Repository: a.Host() + "/org/m"}, {Repository: b.Host() + "/k"}, {Repository: "oci:" + filepath.Join(t.TempDir(), "dist")}}
	r := f.release(t, "v1")
	r.Signatures = nil
	r.Check = func(context.Context, *oci.Repository, v1.Hash) error { return nil }
	receipts, err := newClient().Publish(t.Context(), r, to...)
	check(t, err)
	if n := receipts[0].Mounted + receipts[1].Mounted; n < 6 || receipts[2].Mounted != 0 || receipts[3].Mounted != 0 {
		t.Errorf("got %d mounted on one registry, %d and %d elsewhere", n, receipts[2].Mounted, receipts[3].Mounted)
	}
	seen := map[string]int{}
	for _, q := range a.Writes() {
		if q.Method == "PUT" && strings.Contains(q.Path, "/blobs/uploads/") {
			seen[q.Path[strings.Index(q.Path, "digest="):]]++
		}
	}
	for digest, n := range seen {
		if n != 1 {
			t.Errorf("%s was sent %d times to one registry", digest, n)
		}
	}
}

// Nothing to do costs at most 12 requests a destination, whatever the registry
// has: the two-platform release with signatures and attestations in both forms on
// every part. Of one without the referrers API an earlier receipt has to say so.
func TestNothingToDoCostsTwelveRequests(t *testing.T) {
	registries(t, func(t *testing.T, o imgtest.RegistryOptions) {
		reg := imgtest.StartRegistry(t, o)
		f, to := newFixture(t, 1000), oci.Destination{Repository: reg.Host() + "/kubelet"}
		for name, tags := range map[string]map[v1.Hash][]string{"one tag": nil, "a tag on each platform": {f.parts(t)[1].Digest: {"v1-amd64"}, f.parts(t)[2].Digest: {"v1-arm64"}}} {
			r := f.release(t, "v1")
			r.PartTags, r.Signatures = tags, bothLegacyTags(t, f)
			receipts, err := newClient().Publish(t.Context(), r, to)
			check(t, err)
			to.FallbackTags = receipts[0].FallbackTags
			reg.Forget()
			r.Check = func(context.Context, *oci.Repository, v1.Hash) error { return errors.New("checked again") }
			_, err = newClient().Publish(t.Context(), r, to)
			check(t, err)
			if log := reg.Requests(); len(log) > 12 || len(reg.Writes()) > 0 {
				t.Errorf("%s: got %d requests, want at most 12 that only ask: %v", name, len(log), log)
			}
		}
	})
}

// bothLegacyTags makes what is under the .sig and the .att tags.
func bothLegacyTags(t *testing.T, f *fixture) func(context.Context, string) (map[string]v1.Image, error) {
	return func(_ context.Context, repository string) (map[string]v1.Image, error) {
		m := make(map[string]v1.Image)
		for _, d := range f.parts(t) {
			for _, suffix := range []string{".sig", ".att"} {
				m["sha256-"+d.Digest.Hex+suffix] = legacySignature(t, repository, d.Digest, "imgctl"+suffix)
			}
		}
		return m, nil
	}
}

// A receipt that says that there is no referrers API spares a question, and
// nothing else: what the fallback tags lack is brought to where the API lists it.
func TestReceiptOfFallbackTagsIsNoMoreThanAHint(t *testing.T) {
	registries(t, func(t *testing.T, o imgtest.RegistryOptions) {
		reg := imgtest.StartRegistry(t, o)
		f, to := newFixture(t, 1000), oci.Destination{Repository: reg.Host() + "/k", FallbackTags: true}
		receipts, err := newClient().Publish(t.Context(), f.release(t, "v1"), to)
		check(t, err)
		complete(t, newClient(), to.Repository, f, "v1")
		if got := receipts[0].FallbackTags; got != o.NoReferrers {
			t.Errorf("the receipt says fallback tags: %t, want %t", got, o.NoReferrers)
		}
	})
}

// What vouches for the rest is not believed where everything is to be asked for.
func TestThoroughPublishBringsABlobThatGotLost(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	f, to := newFixture(t, 1000), oci.Destination{Repository: reg.Host() + "/k"}
	_, err := newClient().Publish(t.Context(), f.release(t, "v1"), to)
	check(t, err)
	lost := digestOf(f.layers[1].body).String()
	for _, thorough := range []bool{false, true} {
		reg.Heal()
		reg.On(imgtest.Fault{Method: "HEAD", Path: "/blobs/" + lost, Times: 1, Status: 404})
		r := f.release(t, "v1")
		r.Thorough = thorough
		receipts, err := newClient().Publish(t.Context(), r, to)
		check(t, err)
		if got := receipts[0].Uploaded > 0; got != thorough {
			t.Errorf("thorough %t: uploaded %d", thorough, receipts[0].Uploaded)
		}
	}
}
