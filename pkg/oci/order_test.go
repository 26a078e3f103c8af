package oci_test

import (
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// What is small does not wait for what is large: a layer is held back until
// every attachment and signature is there.
func TestSignaturesAndAttachmentsGoWhileLayersDo(t *testing.T) {
	registries(t, func(t *testing.T, o imgtest.RegistryOptions) {
		reg := imgtest.StartRegistry(t, o)
		f, name := newFixture(t, 2<<20), reg.Host()+"/k"
		done := make(chan struct{})
		var mu sync.Mutex
		missing := 6 + 3 // attachments and signature tags
		reg.On(imgtest.Fault{Method: "PUT", Path: digestOf(f.layers[0].body).Hex, Wait: done})
		reg.On(imgtest.Fault{Method: "PUT", Path: "/manifests/", If: func(q imgtest.Request) bool {
			mu.Lock()
			defer mu.Unlock()
			if strings.HasSuffix(q.Path, ".sig") || strings.Contains(q.Path, "/manifests/sha256:") {
				if missing--; missing == 0 {
					close(done)
				}
			}
			return false
		}})
		_, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: name})
		check(t, err)
		reg.Heal()
		complete(t, newClient(), name, f, "v1")
	})
}

// A registry that wants to have what an attachment refers to gets it first. So
// does one that does not answer for what it lacks, such as Quay, or else its
// referrers API would be taken for missing.
func TestAttachmentsComeLaterWhereTheirSubjectIsWanted(t *testing.T) {
	for name, fault := range map[string]func(f *fixture, have func(string) bool) imgtest.Fault{
		"refuses": func(f *fixture, have func(string) bool) imgtest.Fault {
			return imgtest.Fault{Method: "PUT", Path: "/manifests/sha256:", Status: http.StatusNotFound, If: func(q imgtest.Request) bool {
				_, ref, _ := strings.Cut(q.Path, "/manifests/")
				return !isPart(f.parts(t), ref) && !have(f.digest(t).String())
			}}
		},
		"does not answer": func(f *fixture, have func(string) bool) imgtest.Fault {
			return imgtest.Fault{Path: "/referrers/", Status: http.StatusBadRequest, If: func(q imgtest.Request) bool {
				_, subject, _ := strings.Cut(q.Path, "/referrers/")
				return !have(subject)
			}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			f, repo := newFixture(t, 100), reg.Host()+"/k"
			put := make(map[string]bool) // what has been put; the registry asks for one request at a time
			have := func(digest string) bool { return put[digest] }
			reg.On(imgtest.Fault{Method: "PUT", Path: "/manifests/", If: func(q imgtest.Request) bool {
				if _, ref, _ := strings.Cut(q.Path, "/manifests/"); isPart(f.parts(t), ref) {
					put[ref] = true
				}
				return false
			}})
			reg.On(fault(f, have))
			receipts, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: repo})
			check(t, err)
			reg.Heal()
			complete(t, newClient(), repo, f, "v1")
			if receipts[0].FallbackTags {
				t.Error("the referrers API was taken for missing")
			}
		})
	}
}

// isPart reports whether one of the parts has the digest.
func isPart(parts []v1.Descriptor, digest string) bool {
	return slices.ContainsFunc(parts, func(d v1.Descriptor) bool { return d.Digest.String() == digest })
}
