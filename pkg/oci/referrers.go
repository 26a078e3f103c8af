package oci

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/pkg/oci/artifact"
)

// maxPages is how many pages of a referrers list are read.
const maxPages = 64

// errNoIndex is a document that is no index at all, errNoAPI none for lack of an API.
var (
	errNoIndex = errors.New("not an image index")
	errNoAPI   = errors.New("no referrers API")
)

// referrersAPI is what an answer says of a registry's referrers API.
type referrersAPI int

const (
	apiRefuses referrersAPI = iota // 400, 405, 406 or a page: of Quay it may be the subject that it does not know
	apiAbsent                      // 404
	apiLists
)

// referrers implements [backend]: the referrers API of distribution-spec 1.1.
//
// A registry without it answers 404, or 400, 405 or 406, or 200 with some page
// for people. Anything else that is not a list is an error: a registry that is
// overloaded has not said that nothing is signed.
func (g *registry) referrers(ctx context.Context, h v1.Hash) (list []v1.Descriptor, api referrersAPI, err error) {
	at := g.url("referrers", h.String())
	seen := make(map[string]bool)
	for at != nil {
		if seen[at.String()] || len(seen) >= maxPages {
			return nil, apiRefuses, badContent("list referrers of", g.object(h.String()), "its pages do not end")
		}
		seen[at.String()] = true
		page, next, err := g.referrersPage(ctx, h, at)
		switch {
		case errors.Is(err, errNoAPI) && len(seen) == 1:
			return nil, apiAbsent, nil
		case errors.Is(err, errNoIndex) && len(seen) == 1:
			return nil, apiRefuses, nil
		case err != nil:
			return nil, apiRefuses, err
		}
		list = append(list, page...)
		if len(list) > MaxEntries {
			return nil, apiRefuses, badContent("list referrers of", g.object(h.String()), "got more than %d", MaxEntries)
		}
		at = next
	}
	return list, apiLists, nil
}

// referrersPage reads one page, and where the next one is.
func (g *registry) referrersPage(ctx context.Context, h v1.Hash, at *url.URL) ([]v1.Descriptor, *url.URL, error) {
	const op = "list referrers of"
	object := g.object(h.String())
	req, err := http.NewRequest(http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, nil, badContent(op, object, "header Link: not a URL")
	}
	req.Header.Set("Accept", string(types.OCIImageIndex))
	resp, body, err := g.document(ctx, op, object, req)
	if err != nil {
		return nil, nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound:
		drain(resp.Body)
		return nil, nil, errNoAPI
	case http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable:
		drain(resp.Body)
		return nil, nil, errNoIndex
	default:
		return nil, nil, answerError(op, object, resp)
	}
	page, err := parseReferrers(body)
	if err != nil {
		return nil, nil, &fault{kind: malformed, op: op, object: object, err: err}
	}
	next, err := nextPage(at, resp.Header.Values("Link"))
	if err != nil {
		return nil, nil, &fault{kind: malformed, op: op, object: object, err: err}
	}
	return page, next, nil
}

// parseReferrers reads an index for the descriptors in it. [errNoIndex] is for
// what is no index; an index with something wrong in it is another error.
func parseReferrers(body []byte) ([]v1.Descriptor, error) {
	keys, err := topKeys(body)
	if err != nil || !keys["manifests"] || keys["layers"] || keys["config"] {
		return nil, errNoIndex
	}
	var ix v1.IndexManifest
	if err := json.Unmarshal(body, &ix); err != nil {
		return nil, err
	}
	if err := checkDescriptors(ix.Manifests, MaxEntries); err != nil {
		return nil, err
	}
	return ix.Manifests, nil
}

// nextPage returns the address that a Link header gives as rel="next", nil
// when there is none. It must be on the host of the first page.
func nextPage(at *url.URL, links []string) (*url.URL, error) {
	for _, link := range strings.Split(strings.Join(links, ","), ",") {
		target, params, ok := strings.Cut(strings.TrimSpace(link), ">")
		if !ok || !strings.HasPrefix(target, "<") || !isNext(params) {
			continue
		}
		u, err := at.Parse(target[1:])
		if err != nil {
			return nil, errors.New("header Link: not a URL")
		}
		if u.Host != at.Host || u.Scheme != at.Scheme || u.User != nil {
			return nil, fmt.Errorf("header Link: got %s://%s, want %s://%s", u.Scheme, u.Host, at.Scheme, at.Host)
		}
		u.Fragment = ""
		return u, nil
	}
	return nil, nil
}

// isNext reports whether the parameters of a link hold rel=next.
func isNext(params string) bool {
	for _, p := range strings.Split(params, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(p), "=")
		if strings.EqualFold(strings.TrimSpace(key), "rel") && strings.EqualFold(strings.Trim(value, `" `), "next") {
			return true
		}
	}
	return false
}

// fallbackTag is where referrers are listed when a registry has no API for
// it: distribution-spec, "Referrers Tag Schema".
func fallbackTag(h v1.Hash) string { return h.Algorithm + "-" + h.Hex }

// mergeReferrers returns each manifest once, sorted by digest. Where two lists
// describe one differently, the type that says more and all annotations stay:
// writers of the fallback tag have left both out (cosign before 3).
func mergeReferrers(lists ...[]v1.Descriptor) []v1.Descriptor {
	byDigest := make(map[v1.Hash]v1.Descriptor)
	for _, list := range lists {
		for _, d := range list {
			old, ok := byDigest[d.Digest]
			if ok {
				d = mergeDescriptor(old, d)
			}
			byDigest[d.Digest] = d
		}
	}
	return slices.SortedFunc(maps.Values(byDigest), func(a, b v1.Descriptor) int {
		return cmp.Compare(a.Digest.String(), b.Digest.String())
	})
}

// mergeDescriptor completes a by what only b says.
func mergeDescriptor(a, b v1.Descriptor) v1.Descriptor {
	if a.ArtifactType == "" || a.ArtifactType == artifact.EmptyMediaType {
		if b.ArtifactType != "" {
			a.ArtifactType = b.ArtifactType
		}
	}
	for k, v := range b.Annotations {
		if _, ok := a.Annotations[k]; !ok {
			a.Annotations = maps.Clone(a.Annotations)
			if a.Annotations == nil {
				a.Annotations = make(map[string]string)
			}
			a.Annotations[k] = v
		}
	}
	return a
}
