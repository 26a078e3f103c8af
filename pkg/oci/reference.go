package oci

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Reference names a repository and perhaps a tag or a digest in it.
type Reference struct {
	Repository string  // canonical: "docker.io/library/busybox", "[::1]:5000/kubelet", "oci:DIR" or "oci:FILE.tar"
	Tag        string  // "" when none was given
	Digest     v1.Hash // zero when none was given; it wins over the tag
}

// String returns the canonical reference.
func (r Reference) String() string {
	s := r.Repository
	if r.Tag != "" {
		s += ":" + r.Tag
	}
	if r.Digest != (v1.Hash{}) {
		s += "@" + r.Digest.String()
	}
	return s
}

const (
	layoutPrefix = "oci:"
	dockerHub    = "docker.io"
	maxReference = 4096 // a host has ≤ 253 bytes, a repository ≤ 255, a tag ≤ 128; a directory ≤ PATH_MAX
	maxName      = 255
)

var (
	// The grammar is that of the distribution specification, "Pulling manifests".
	pathPattern = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagPattern  = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	// An "@" that one of these follows is a digest's; any other is taken for credentials.
	algorithmPattern = regexp.MustCompile(`^(?i:md5|sha1|sha256|sha384|sha512|blake3):`)
	hostPattern      = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]*[a-z0-9])?)*$`)
)

// ParseReference parses "host[:port]/path[:tag][@digest]", the short forms of
// Docker Hub ("busybox", "psdn/kubelet"), and "oci:DIR[:tag][@digest]".
//
// It accepts one spelling of a name and nothing that looks like another:
// letters outside ASCII, upper case in host or path, a trailing dot and
// digests other than lower-case sha256 are errors. So are credentials, which
// the error does not repeat. All names of Docker Hub become "docker.io".
func ParseReference(s string) (Reference, error) {
	if err := checkText(s); err != nil {
		return Reference{}, err
	}
	if dir, ok := strings.CutPrefix(s, layoutPrefix); ok {
		return parseLayout(s, dir)
	}
	rest, digest, hasDigest := strings.Cut(s, "@")
	var ref Reference
	if hasDigest {
		if !algorithmPattern.MatchString(digest) {
			// Most likely user:password@host: nothing of it is repeated.
			return Reference{}, errors.New("parse reference: what follows @ is not a digest (credentials belong in an auth file, not in a reference)")
		}
		h, err := ParseDigest(digest)
		if err != nil {
			return Reference{}, fmt.Errorf("parse reference: %w", err)
		}
		ref.Digest = h
	}
	name := rest
	if i := strings.LastIndexByte(rest, ':'); i > strings.LastIndexByte(rest, '/') && i > 0 {
		name, ref.Tag = rest[:i], rest[i+1:]
		if !tagPattern.MatchString(ref.Tag) {
			return Reference{}, fmt.Errorf("parse reference %q: tag: got %q, want letters, digits and ._- (at most 128)", s, ref.Tag)
		}
	}
	var err error
	if ref.Repository, err = canonical(name); err != nil {
		return Reference{}, fmt.Errorf("parse reference %q: %w", s, err)
	}
	return ref, nil
}

// ParseDigest parses a digest strictly: "sha256:" and 64 lower-case hexadecimal
// digits. Other algorithms are refused: nothing that imgctl reads uses them.
func ParseDigest(s string) (v1.Hash, error) {
	hex, ok := strings.CutPrefix(s, "sha256:")
	if !ok || len(hex) != 64 || strings.Trim(hex, "0123456789abcdef") != "" {
		return v1.Hash{}, fmt.Errorf("digest: got %q, want sha256: and 64 lower-case hexadecimal digits", clip(s))
	}
	return v1.Hash{Algorithm: "sha256", Hex: hex}, nil
}

// checkDigest is [ParseDigest] for a value that something else has filled.
func checkDigest(h v1.Hash) error {
	_, err := ParseDigest(h.String())
	return err
}

// checkText refuses what would look in a terminal like another reference.
func checkText(s string) error {
	if s == "" {
		return errors.New("parse reference: it is empty")
	}
	if len(s) > maxReference {
		return fmt.Errorf("parse reference: got %d bytes, want at most %d", len(s), maxReference)
	}
	layout := strings.HasPrefix(s, layoutPrefix)
	for i, r := range s {
		if r < ' ' || r == 0x7f {
			return fmt.Errorf("parse reference: control character at byte %d", i)
		}
		if !layout && (r == ' ' || r > 0x7f) {
			// Not quoted with %q alone: Cyrillic "а" would print as what it imitates.
			return fmt.Errorf("parse reference %+q: %+q at byte %d: want ASCII without blanks", redactUserinfo(s), r, i)
		}
	}
	return nil
}

// redactUserinfo cuts what stands before an "@", unless it is a digest's.
func redactUserinfo(s string) string {
	if i := strings.LastIndexByte(s, '@'); i >= 0 && !strings.HasPrefix(s[i+1:], "sha256:") {
		return "REDACTED" + s[i:]
	}
	return s
}

// canonical returns the one name of a repository in a registry.
func canonical(name string) (string, error) {
	if strings.Contains(name, "://") {
		return "", errors.New("want host/path without a scheme")
	}
	host, path, ok := strings.Cut(name, "/")
	if !ok || !strings.ContainsAny(host, ".:[") && host != "localhost" {
		host, path = dockerHub, name
	}
	switch host {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		host = dockerHub
	}
	if err := checkHost(host); err != nil {
		return "", err
	}
	if host == dockerHub && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	if len(path) > maxName || !pathPattern.MatchString(path) {
		return "", fmt.Errorf("repository: got %q, want lower-case letters and digits, separated by one of / . _ __ -", clip(path))
	}
	return host + "/" + path, nil
}

// checkHost accepts a lower-case DNS name or an IP address, with or without a port.
func checkHost(host string) error {
	name := host
	if strings.Contains(host, ":") && !strings.HasSuffix(host, "]") {
		var port string
		var err error
		if name, port, err = net.SplitHostPort(host); err != nil {
			return fmt.Errorf("registry: got %q, want host:port", clip(host))
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || strconv.FormatUint(n, 10) != port {
			return fmt.Errorf("registry: port: got %q, want 1 to 65535", clip(port))
		}
	}
	if strings.HasPrefix(host, "[") {
		name = strings.TrimSuffix(strings.TrimPrefix(name, "["), "]") // SplitHostPort has done it when there is a port
		if a, err := netip.ParseAddr(name); err != nil || !a.Is6() || a.Zone() != "" {
			return fmt.Errorf("registry: got %q, want an IPv6 address in brackets", clip(host))
		}
		return nil
	}
	if len(name) > 253 || !hostPattern.MatchString(name) {
		return fmt.Errorf("registry: got %q, want a lower-case host name without a trailing dot", clip(name))
	}
	return nil
}

// parseLayout parses what follows "oci:". The tag is what stands after the
// last colon, when that could be a tag and no slash follows.
func parseLayout(s, dir string) (Reference, error) {
	var ref Reference
	if i := strings.LastIndexByte(dir, '@'); i > strings.LastIndexByte(dir, '/') {
		h, err := ParseDigest(dir[i+1:])
		if err != nil {
			return Reference{}, fmt.Errorf("parse reference %q: %w", s, err)
		}
		dir, ref.Digest = dir[:i], h
	}
	if i := strings.LastIndexByte(dir, ':'); i > strings.LastIndexByte(dir, '/') {
		if !tagPattern.MatchString(dir[i+1:]) {
			return Reference{}, fmt.Errorf("parse reference %q: tag: got %q, want letters, digits and ._- (at most 128)", s, dir[i+1:])
		}
		dir, ref.Tag = dir[:i], dir[i+1:]
	}
	if dir == "" {
		return Reference{}, fmt.Errorf("parse reference %q: no directory", s)
	}
	dir = filepath.Clean(dir)
	if strings.ContainsAny(filepath.Base(dir), ":@") { // "a:b/" would come back as tag b
		return Reference{}, fmt.Errorf("parse reference %q: the last part of the directory must not hold : or @", s)
	}
	ref.Repository = layoutPrefix + dir
	return ref, nil
}

// clip keeps what is quoted in an error short.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
