package oci

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
)

var evidenceTag = regexp.MustCompile(`^sha256-[0-9a-f]{64}(\.[a-z0-9]+)?$`)

// MaxTags is the most tags of one repository that [Repository.Tags] lists.
const MaxTags = 100_000

// maxTagPages is how many pages of a list of tags are read. Some registries put
// no more than a hundred on one, whatever they are asked for.
const maxTagPages = 1024

// Tags lists the tags of the repository, sorted, each once; those that hold
// signatures and referrers ([IsEvidenceTag]) are among them. A repository that is
// not there is [NotFound].
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	list, err := r.back.tags(ctx)
	if err != nil {
		return nil, err
	}
	for _, tag := range list {
		if !tagPattern.MatchString(tag) {
			return nil, badContent("list tags of", r.name, "got %q, want letters, digits and ._- (at most 128)", clip(sanitize(tag)))
		}
	}
	slices.Sort(list)
	return slices.Compact(list), nil
}

// tags implements [backend].
func (g *registry) tags(ctx context.Context) ([]string, error) {
	const op = "list tags of"
	at := g.url("tags", "list")
	at.RawQuery = "n=1000"
	seen := make(map[string]bool)
	var list []string
	for at != nil {
		if seen[at.String()] || len(seen) >= maxTagPages {
			return nil, badContent(op, g.name, "its pages do not end")
		}
		seen[at.String()] = true
		page, next, err := g.tagsPage(ctx, at)
		if err != nil {
			return nil, err
		}
		if list = append(list, page...); len(list) > MaxTags {
			return nil, badContent(op, g.name, "got more than %d", MaxTags)
		}
		at = next
	}
	return list, nil
}

// tagsPage reads one page, and where the next one is.
func (g *registry) tagsPage(ctx context.Context, at *url.URL) ([]string, *url.URL, error) {
	const op = "list tags of"
	req, err := http.NewRequest(http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, nil, badContent(op, g.name, "header Link: not a URL")
	}
	resp, body, err := g.document(ctx, op, g.name, req)
	if err != nil {
		return nil, nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, nil, answerError(op, g.name, resp)
	}
	page, err := parseTags(body)
	if err != nil {
		return nil, nil, &fault{kind: malformed, op: op, object: g.name, err: err}
	}
	next, err := nextPage(at, resp.Header.Values("Link"))
	if err != nil {
		return nil, nil, &fault{kind: malformed, op: op, object: g.name, err: err}
	}
	return page, next, nil
}

// parseTags reads a page; null is no tag.
func parseTags(body []byte) ([]string, error) {
	var page struct {
		Tags []string `json:"tags"`
	}
	err := json.Unmarshal(body, &page)
	return page.Tags, err
}

// tags implements [backend].
func (l *layout) tags(context.Context) ([]string, error) {
	ix, err := l.index("list tags of", "")
	if err != nil {
		return nil, err
	}
	var list []string
	for _, d := range ix.Manifests {
		if tag, ok := d.Annotations[annotRefName]; ok {
			list = append(list, tag)
		}
	}
	return list, nil
}

// IsEvidenceTag reports whether a tag holds what is said about a manifest, and
// nothing that one pulls: "sha256-<hex>", with or without ".sig" and the like.
func IsEvidenceTag(tag string) bool { return evidenceTag.MatchString(tag) }
