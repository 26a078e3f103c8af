package bundle

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/pkg/bundle/content"
	"github.com/imgctl/imgctl/pkg/bundle/secrets"
)

// check reports why the tree cannot be published: it breaks the format, a file
// says something that nobody resolved or pinned, or holds a secret.
func (t Tree) check() error {
	if err := t.content().Check(); err != nil {
		return err
	}
	for _, f := range t.Files {
		for _, refuse := range []func([]byte) error{secret, placeholder, unpinned, t.otherwisePinned} {
			if err := refuse(f.Body); err != nil {
				return fmt.Errorf("%s: %w", f.Path, err)
			}
		}
	}
	return nil
}

// secret reports what a file must not hold, in whatever encoding (CATALOGUE K04, K12).
func secret(body []byte) error {
	if f := secrets.Find(body); f != nil {
		return fmt.Errorf("%s; a bundle is public", f)
	}
	return nil
}

// placeholders are what templates and people leave to fill in.
var placeholders = []*regexp.Regexp{
	regexp.MustCompile(`\{\{`),
	regexp.MustCompile(`\}\}`),
	regexp.MustCompile(`\$\{[^}\n]*\}?`),
	regexp.MustCompile(`\{[A-Za-z]+\}`),
	regexp.MustCompile(`<[A-Z_ -]+>`),
	regexp.MustCompile(`REPLACE_?ME`), // each with a text to begin with: all of them in one are ten times as slow
	regexp.MustCompile(`CHANGE_?ME`),
	regexp.MustCompile(`TODO`),
	regexp.MustCompile(`FIXME`),
}

// placeholder reports what was left to fill in (CATALOGUE K06). The variables
// that a unit expands at start are none.
func placeholder(body []byte) error {
	for _, v := range variables {
		body = bytes.ReplaceAll(body, []byte(v), nil)
	}
	for _, form := range placeholders {
		if at := form.FindIndex(body); at != nil {
			return fmt.Errorf("line %d: the placeholder %.80q was not filled in", line(body, at[0]), body[at[0]:at[1]])
		}
	}
	return nil
}

func line(body []byte, offset int) int { return 1 + bytes.Count(body[:offset], []byte("\n")) }

// delimiters end a reference.
const delimiters = " \t\n\"',"

// registries are those whose references are known wherever they stand.
var registries = []string{
	"docker.io/", "quay.io/", "registry.k8s.io/", "ghcr.io/", "gcr.io/", "pkg.dev/", "public.ecr.aws/", "mcr.microsoft.com/",
}

// imageForm is an image of a manifest, whatever registry it names.
var imageForm = regexp.MustCompile(`image["']?\s*:\s*["']?([^\s"',]+)`)

// unpinned reports an image that is named by a tag or by nothing (CATALOGUE K07).
func unpinned(body []byte) error {
	text := string(body)
	var refs []string
	for _, host := range registries {
		for i := range occurrences(text, host) {
			refs = append(refs, until(text[i:], delimiters))
		}
	}
	for _, m := range imageForm.FindAllStringSubmatch(text, -1) {
		refs = append(refs, m[1])
	}
	for _, ref := range refs {
		if err := content.CheckPinned(ref); err != nil {
			return fmt.Errorf("image %w", err)
		}
	}
	return nil
}

// otherwisePinned reports one of the tree's own images that is named in another
// way than it was pinned.
func (t Tree) otherwisePinned(body []byte) error {
	text := string(body)
	for _, ref := range slices.Sorted(maps.Values(t.Images)) {
		repository, _, _ := strings.Cut(ref, "@")
		for i := range occurrences(text, repository) {
			rest := text[i+len(repository):]
			longer := rest != "" && strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789-_./", rune(rest[0]))
			if !longer && !strings.HasPrefix(text[i:], ref) {
				return fmt.Errorf("image %.300q: want it as %s", until(text[i:], delimiters), ref)
			}
		}
	}
	return nil
}

// occurrences yields where part is in text.
func occurrences(text, part string) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for from := 0; ; {
			i := strings.Index(text[from:], part)
			if i < 0 || !yield(from+i) {
				return
			}
			from += i + len(part)
		}
	}
}

// until returns text up to the first of the characters in ends.
func until(text, ends string) string {
	if i := strings.IndexAny(text, ends); i >= 0 {
		return text[:i]
	}
	return text
}
