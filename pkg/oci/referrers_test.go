package oci_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

func indexOf(t testing.TB, ds ...v1.Descriptor) string {
	t.Helper()
	if ds == nil {
		ds = []v1.Descriptor{}
	}
	b, err := json.Marshal(v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: ds})
	check(t, err)
	return string(b)
}

// R34: what says that there is no API leads to the fallback tag; what says
// that nobody could answer is an error, and never an empty list.
func TestReferrersAnswerThatIsNoList(t *testing.T) {
	// With the fallback tag, so that "no API" has something to find.
	reg, repo, f := published(t, imgtest.RegistryOptions{NoReferrers: true}, 10)
	html := http.Header{"Content-Type": {"text/html"}}
	for name, tt := range map[string]struct {
		fault imgtest.Fault
		want  func(error) bool // nil: the fallback's two
	}{
		"404":              {imgtest.Fault{Status: 404}, nil},
		"400":              {imgtest.Fault{Status: 400, Body: `{"errors":[{"code":"MANIFEST_INVALID"}]}`}, nil},
		"405":              {imgtest.Fault{Status: 405}, nil},
		"406":              {imgtest.Fault{Status: 406}, nil},
		"a page":           {imgtest.Fault{Status: 200, Header: html, Body: "<html>Welcome</html>"}, nil},
		"a JSON object":    {imgtest.Fault{Status: 200, Body: `{"errors":[]}`}, nil},
		"an image":         {imgtest.Fault{Status: 200, Body: `{"schemaVersion":2,"config":{},"layers":[]}`}, nil},
		"an empty list":    {imgtest.Fault{Status: 200, Body: indexOf(t)}, nil},
		"429":              {imgtest.Fault{Status: 429}, oci.Unreachable},
		"500":              {imgtest.Fault{Status: 500}, oci.Unreachable},
		"503":              {imgtest.Fault{Status: 503}, oci.Unreachable},
		"no answer":        {imgtest.Fault{Drop: true}, oci.Unreachable},
		"half an answer":   {imgtest.Fault{Status: 200, Body: indexOf(t), Cut: 10}, oci.Unreachable},
		"401":              {imgtest.Fault{Status: 401}, oci.Denied},
		"403":              {imgtest.Fault{Status: 403}, oci.Denied},
		"a bad descriptor": {imgtest.Fault{Status: 200, Body: indexOf(t, v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: -1, Digest: f.digest(t)})}, oci.Malformed},
		"too large":        {imgtest.Fault{Status: 200, Body: strings.Repeat(" ", oci.MaxManifest+1)}, oci.Malformed},
	} {
		t.Run(name, func(t *testing.T) {
			reg.Heal()
			tt.fault.Path = "/referrers/"
			reg.On(tt.fault)
			list, err := repo.Referrers(t.Context(), f.digest(t))
			if tt.want == nil && (err != nil || len(list) != 2) {
				t.Errorf("got %d, %v; want the two of the fallback tag", len(list), err)
			}
			if tt.want != nil && (!tt.want(err) || list != nil) {
				t.Errorf("got %d, %v", len(list), err)
			}
		})
	}
}

// The same for the fallback tag, on a registry whose API lists nothing.
func TestFallbackTagThatCannotBeRead(t *testing.T) {
	reg, repo, f := published(t, imgtest.RegistryOptions{NoReferrers: true}, 10)
	reg.On(imgtest.Fault{Path: "/referrers/", Status: 200, Body: indexOf(t)})
	for name, tt := range map[string]struct {
		fault imgtest.Fault
		want  func(error) bool
	}{
		"503":       {imgtest.Fault{Status: 503}, oci.Unreachable},
		"an image":  {imgtest.Fault{Status: 200, Body: `{"schemaVersion":2,"config":` + emptyDesc + `,"layers":[` + emptyDesc + `]}`, Header: http.Header{"Content-Type": {imageType}}}, oci.Malformed},
		"no answer": {imgtest.Fault{Drop: true}, oci.Unreachable},
	} {
		tt.fault.Path = "/manifests/sha256-"
		reg.On(tt.fault)
		if list, err := repo.Referrers(t.Context(), f.digest(t)); !tt.want(err) || list != nil {
			t.Errorf("%s: got %d, %v", name, len(list), err)
		}
		reg.Heal()
		reg.On(imgtest.Fault{Path: "/referrers/", Status: 200, Body: indexOf(t)})
	}
	reg.On(imgtest.Fault{Path: "/manifests/sha256-", Status: 404})
	if list, err := repo.Referrers(t.Context(), f.digest(t)); err != nil || len(list) != 0 {
		t.Errorf("no tag: got %d, %v; want an empty list", len(list), err)
	}
}

// pages scripts a list of one descriptor a page; next(i) is the Link of page i.
func pages(t *testing.T, reg *imgtest.Registry, n int, next func(i int) string) {
	t.Helper()
	for i := range n {
		body := indexOf(t, v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: 1, Digest: digestOf([]byte(fmt.Sprint(i)))})
		path := "/referrers/"
		if i > 0 {
			path = fmt.Sprintf("page=%d", i)
		}
		h := http.Header{}
		if link := next(i); link != "" {
			h.Set("Link", link)
		}
		fault := imgtest.Fault{Path: path, Status: 200, Body: body, Header: h}
		if i == 0 {
			fault.Times = 1
		}
		reg.On(fault)
	}
}

// R39: pages are followed on the same host only, and come to an end.
func TestReferrersPagesAreFollowedWithBounds(t *testing.T) {
	h := digestOf([]byte("subject"))
	relative := func(i int) string { return fmt.Sprintf(`</v2/k/referrers/%s?page=%d>; rel="next"`, h, i+1) }
	for name, tt := range map[string]struct {
		pages int
		next  func(i int) string
		want  int // -1: malformed
	}{
		"one page":       {1, func(int) string { return "" }, 1},
		"three pages":    {3, func(i int) string { return map[bool]string{true: relative(i)}[i < 2] }, 3},
		"rel unquoted":   {2, func(i int) string { return map[bool]string{true: strings.ReplaceAll(relative(i), `"`, "")}[i < 1] }, 2},
		"another rel":    {1, func(i int) string { return strings.ReplaceAll(relative(i), "next", "last") }, 1},
		"not a link":     {1, func(i int) string { return "next" }, 1},
		"another host":   {1, func(int) string { return `<http://127.0.0.2:1/x>; rel="next"` }, -1},
		"another port":   {1, func(int) string { return `<http://127.0.0.1:1/x>; rel="next"` }, -1},
		"another kind":   {1, func(int) string { return `<file:///etc/passwd>; rel="next"` }, -1},
		"to itself":      {2, func(int) string { return relative(0) }, -1},
		"without end":    {100, relative, -1},
		"not even a URL": {1, func(int) string { return `<http://[::1>; rel="next"` }, -1},
	} {
		t.Run(name, func(t *testing.T) {
			reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			pages(t, reg, tt.pages, tt.next)
			repo, err := newClient().Repository(reg.Host() + "/k")
			check(t, err)
			list, err := repo.Referrers(t.Context(), h)
			if tt.want >= 0 && (err != nil || len(list) != tt.want) || tt.want < 0 && !oci.Malformed(err) {
				t.Errorf("got %d, %v; want %d", len(list), err, tt.want)
			}
			if n := len(reg.Requests()); n > 70 {
				t.Errorf("got %d requests", n)
			}
		})
	}
}

// R37: a fallback index that says nothing useful about its entries still
// lists them, and what the API says completes it.
func TestUselessArtifactTypeIsNotDropped(t *testing.T) {
	reg, repo, f := published(t, imgtest.RegistryOptions{}, 10)
	subject := f.parts(t)[0]
	api, err := repo.Referrers(t.Context(), subject.Digest)
	check(t, err)
	useless := []v1.Descriptor{
		{MediaType: types.OCIManifestSchema1, Size: api[0].Size, Digest: api[0].Digest, ArtifactType: artifact.EmptyMediaType},
		{MediaType: types.OCIManifestSchema1, Size: 7, Digest: digestOf([]byte("unlisted")), ArtifactType: artifact.EmptyMediaType},
		{MediaType: types.OCIManifestSchema1, Size: 8, Digest: digestOf([]byte("nothing said"))},
	}
	reg.On(imgtest.Fault{Path: "/manifests/sha256-" + subject.Digest.Hex, Status: 200, Body: indexOf(t, useless...), Header: http.Header{"Content-Type": {indexType}}})
	list, err := repo.Referrers(t.Context(), subject.Digest)
	check(t, err)
	if len(list) != 4 || !slices.IsSortedFunc(list, func(a, b v1.Descriptor) int { return strings.Compare(a.Digest.Hex, b.Digest.Hex) }) {
		t.Fatalf("got %d, want two of the API and two more, sorted", len(list))
	}
	for _, d := range list {
		if d.Digest == api[0].Digest && (d.ArtifactType != api[0].ArtifactType || d.Annotations["kind"] == "") {
			t.Errorf("got %+v, want what the API says", d)
		}
	}
}

// An entry that others have put under the fallback tag stays there.
func TestFallbackTagKeepsWhatOthersListed(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{NoReferrers: true})
	name, f := reg.Host()+"/k", newFixture(t, 10)
	r := f.release(t)
	mine := r.Attachments
	for _, a := range mine { // one by one, as different tools would
		r.Attachments = []oci.Attachment{a, mine[0]}
		_, err := newClient().Publish(t.Context(), r, oci.Destination{Repository: name})
		check(t, err)
	}
	complete(t, newClient(), name, f)
}

// M25: two clients that attach at the same time lose nothing.
func TestAttachingAtTheSameTimeLosesNothing(t *testing.T) {
	for name, repository := range map[string]string{
		"API":    imgtest.StartRegistry(t, imgtest.RegistryOptions{}).Host() + "/k",
		"layout": "oci:" + filepath.Join(t.TempDir(), "dist"),
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t, 10)
			whole := f.release(t)
			errs := make(chan error)
			for _, a := range whole.Attachments {
				r := oci.Release{Subject: f.index, Attachments: []oci.Attachment{a}, Signatures: whole.Signatures}
				go func() {
					_, err := newClient().Publish(context.Background(), r, oci.Destination{Repository: repository})
					errs <- err
				}()
			}
			for range whole.Attachments {
				check(t, <-errs)
			}
			complete(t, newClient(), repository, f)
		})
	}
}

// Where two PUTs at once have lost one, or the list is behind, the referrer
// is put again, and listed in the end.
func TestReferrerThatGotLostIsPutAgain(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	f, name := newFixture(t, 10), reg.Host()+"/k"
	for _, d := range f.parts(t) {
		reg.On(imgtest.Fault{Path: "/referrers/" + d.Digest.String() + "$", Times: 1, Status: 200, Body: indexOf(t)})
	}
	_, err := newClient().Publish(t.Context(), f.release(t), oci.Destination{Repository: name})
	check(t, err)
	reg.Heal()
	complete(t, newClient(), name, f)
	for _, q := range reg.Writes() {
		if strings.Contains(q.Path, "/manifests/sha256-") && !strings.Contains(q.Path, ".sig") {
			t.Errorf("a fallback tag on a registry that has the API: %s", q)
		}
	}
}
