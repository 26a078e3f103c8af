package deb

import (
	"bytes"
	"io"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// maxSources bounds one of apt's configuration files.
const maxSources = 1 << 20

// Configured returns where apt looks for Debian's archives on the machine whose
// root directory is root ("/" for this one): for [Main] and [Security] the URL for
// use as [Archive.Base], as far as apt is configured with one.
//
// It is the first http or https entry, in apt's order of files (sources.list(5)),
// for binary packages of component main from a URI whose path ends in "/" and the
// archive's name. Entries that are signed by another keyring than Debian's are other people's
// archives, and one with a password in its URI is not for use by others. Files
// that cannot be read or understood are passed over: this is a default, and what
// it leads to is verified anyway.
func Configured(root string) map[string]string {
	apt := filepath.Join(root, "etc/apt")
	files := []string{filepath.Join(apt, "sources.list")}
	if entries, err := os.ReadDir(filepath.Join(apt, "sources.list.d")); err == nil { // sorted by name
		for _, e := range entries {
			files = append(files, filepath.Join(apt, "sources.list.d", e.Name()))
		}
	}
	bases := make(map[string]string)
	for _, name := range files {
		data, err := readBounded(name, maxSources)
		if err != nil {
			continue
		}
		var sources []source
		switch path.Ext(name) {
		case ".list":
			sources = parseSourceLines(data)
		case ".sources":
			sources = parseSourceStanzas(data)
		}
		for _, s := range sources {
			base := strings.TrimRight(s.uri, "/")
			name := path.Base(base)
			if _, ok := bases[name]; !ok && (name == Main || name == Security) && s.isDebian(name) {
				bases[name] = base
			}
		}
	}
	return bases
}

// source is one archive of apt's configuration.
type source struct {
	uri        string
	components []string
	signedBy   string
}

// isDebian reports whether s can be taken for Debian's archive of that name.
func (s source) isDebian(name string) bool {
	u, err := url.Parse(s.uri)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return false
	}
	if s.signedBy != "" && !strings.Contains(path.Base(s.signedBy), "debian-archive") {
		return false
	}
	return strings.HasSuffix(strings.TrimRight(u.Path, "/"), "/"+name) && slices.Contains(s.components, component)
}

// parseSourceLines parses the one-line style: "deb [options] uri suite component…".
func parseSourceLines(data []byte) []source {
	var all []source
	for line := range strings.Lines(string(data)) {
		line, _, _ = strings.Cut(line, "#")
		words := strings.Fields(line)
		if len(words) == 0 || words[0] != "deb" {
			continue
		}
		words = words[1:]
		var s source
		if len(words) > 0 && strings.HasPrefix(words[0], "[") {
			end := slices.IndexFunc(words, func(w string) bool { return strings.HasSuffix(w, "]") })
			if end < 0 {
				continue
			}
			s.signedBy = option(words[:end+1], "signed-by")
			words = words[end+1:]
		}
		if len(words) < 3 {
			continue // no component: a flat repository
		}
		s.uri, s.components = words[0], words[2:]
		all = append(all, s)
	}
	return all
}

// option returns the value of one option of "[name=value name=value]".
func option(words []string, name string) string {
	for _, w := range words {
		key, value, _ := strings.Cut(strings.Trim(w, "[]"), "=")
		if strings.EqualFold(key, name) {
			return value
		}
	}
	return ""
}

// parseSourceStanzas parses the deb822 style, up to the first mistake.
func parseSourceStanzas(data []byte) []source {
	var all []source
	r := newStanzaReader(bytes.NewReader(data))
	r.comments = true
	for {
		s, err := r.next()
		if err != nil {
			return all
		}
		if !slices.Contains(s.words("Types"), "deb") || slices.Contains([]string{"no", "false", "without", "off", "disable"}, strings.ToLower(s.get("Enabled"))) {
			continue
		}
		for _, uri := range s.words("URIs") {
			all = append(all, source{uri: uri, components: s.words("Components"), signedBy: s.get("Signed-By")})
		}
	}
}

// readBounded reads a file of at most max bytes; a larger one is cut.
func readBounded(name string, max int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, max))
}
