package oci_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

func TestTagsAreListedWithThoseOfEvidence(t *testing.T) {
	for name, repository := range map[string]string{
		"registry": imgtest.StartRegistry(t, imgtest.RegistryOptions{}).Host() + "/k",
		"layout":   "oci:" + filepath.Join(t.TempDir(), "dist"),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 10)
			r := f.release(t, "v1", "v2")
			r.Signatures = func(_ context.Context, repository string) (map[string]v1.Image, error) {
				return map[string]v1.Image{"sha256-" + f.digest(t).Hex + ".sig": legacySignature(t, "a", f.digest(t), "x")}, nil
			}
			_, err := newClient().Publish(t.Context(), r, oci.Destination{Repository: repository})
			check(t, err)
			repo, err := newClient().Repository(repository)
			check(t, err)
			tags, err := repo.Tags(t.Context())
			check(t, err)
			own := slices.DeleteFunc(slices.Clone(tags), oci.IsEvidenceTag)
			if !slices.Equal(own, []string{"v1", "v2"}) || !slices.Contains(tags, "sha256-"+f.digest(t).Hex+".sig") {
				t.Errorf("got %q, of which %q are no evidence", tags, own)
			}
		})
	}
}

// R-class: pages are followed, only on the same host, and they end.
func TestTagsOfAllPagesAreListed(t *testing.T) {
	page := func(tags, link string) imgtest.Fault {
		h := http.Header{"Content-Type": {"application/json"}}
		if link != "" {
			h.Set("Link", link)
		}
		return imgtest.Fault{Path: "/tags/list", Times: 1, Status: 200, Header: h, Body: `{"name":"k","tags":` + tags + `}`}
	}
	next := `</v2/k/tags/list?n=1000&last=b>; rel="next"`
	for name, tt := range map[string]struct {
		pages []imgtest.Fault
		want  string
	}{
		"two pages":      {[]imgtest.Fault{page(`["b","a"]`, next), page(`["c","a"]`, "")}, "[a b c]"},
		"null":           {[]imgtest.Fault{page(`null`, "")}, "[]"},
		"another host":   {[]imgtest.Fault{page(`["a"]`, `<http://127.0.0.9/v2/k/tags/list>; rel="next"`)}, "header Link"},
		"an endless one": {[]imgtest.Fault{page(`["a"]`, next), page(`["a"]`, next)}, "pages do not end"},
		"no tag":         {[]imgtest.Fault{page(`["a/../b"]`, "")}, "want letters"},
		"no list":        {[]imgtest.Fault{page(`"a"`, "")}, "list tags of"},
	} {
		t.Run(name, func(t *testing.T) {
			r := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			for _, f := range tt.pages {
				r.On(f)
			}
			repo, err := newClient().Repository(r.Host() + "/k")
			check(t, err)
			tags, err := repo.Tags(t.Context())
			if got := fmt.Sprint(tags, err); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
