package build

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/semver"

	"github.com/imgctl/imgctl/pkg/build/layer"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// The grammar of names. They go into paths, URLs and lines of files.
var (
	accountName = regexp.MustCompile(`^[a-z_][a-z0-9_-]{0,30}$`)                 // useradd(8)
	packageName = regexp.MustCompile(`^[a-z0-9][a-z0-9+.-]+( \([<>=]+ \S+\))?$`) // Debian Policy 5.6.7, with a version as in Depends
	archiveName = regexp.MustCompile(`^debian(-security)?$`)
	variantName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	userName    = regexp.MustCompile(`^[a-z0-9_][a-z0-9_-]{0,30}(:[a-z0-9_][a-z0-9_-]{0,30})?$`)
	suiteName   = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
	binaryName  = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,63}$`)
	channelName = regexp.MustCompile(`^(stable|latest)(-1(\.[0-9]{1,3})?)?$`)
	envName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	octalMode   = regexp.MustCompile(`^0?[0-7]{3,4}$`)
	alternative = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_.+-]{0,127}$`)
)

// validate says what is wrong with the spec: the path of the field, what it
// has and what it should have.
func (s *Spec) validate() error {
	return cmp.Or(
		s.validatePlatforms(),
		s.validateUpstream(),
		s.validatePackages(),
		s.validateVariants(),
		s.validateLocal(),
		s.validateConfig(),
	)
}

// validateVariants checks what each variant adds together with what all have:
// that is where a path or a package may be given twice.
func (s *Spec) validateVariants() error {
	seen := make(map[string]bool)
	for i, v := range s.Variants {
		if !variantName.MatchString(v.Name) || v.Name == defaultVariant {
			return fmt.Errorf("variants[%d].name: got %q, want a word of lower-case letters and digits, and not %q", i, v.Name, defaultVariant)
		}
		if seen[v.Name] {
			return fmt.Errorf("variants[%d].name: %s is given twice", i, v.Name)
		}
		seen[v.Name] = true
	}
	for _, name := range s.variants() {
		one := s.variant(name)
		err := cmp.Or(one.validateInstall(), one.validateAccounts(), one.validatePaths(), one.validateAlternatives(), at(one.Gates.Validate(), "gates"))
		if err != nil && name != "" {
			err = at(err, "variant %s", name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *Spec) validateLocal() error {
	for i, f := range s.Local {
		if name := f.file("amd64"); !fs.ValidPath(name) || name == "." || strings.ContainsAny(name, "{}") {
			return fmt.Errorf("local[%d].source: got %q, want a clean path relative to %s, with {arch} or without", i, f.Source, SpecFile)
		}
		if f.Mode != "" && !octalMode.MatchString(f.Mode) {
			return fmt.Errorf("local[%d].mode: got %q, want an octal number such as \"0755\"", i, f.Mode)
		}
	}
	return nil
}

// at blames a field. A nil error stays nil.
func at(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, args...), err)
}

func (s *Spec) validatePlatforms() error {
	if len(s.Platforms) == 0 {
		return errors.New("platforms: none given, want linux/amd64, linux/arm64 or both")
	}
	for i, p := range s.Platforms {
		if p != "linux/amd64" && p != "linux/arm64" {
			return fmt.Errorf("platforms: got %q, want linux/amd64 or linux/arm64", p)
		}
		if i > 0 && s.Platforms[i-1] == p {
			return fmt.Errorf("platforms: %s is given twice", p)
		}
	}
	return nil
}

func (s *Spec) validateUpstream() error {
	u := s.Upstream
	if (len(u.Versions) == 0) != (len(u.Files) == 0) {
		return fmt.Errorf("upstream: got %d versions and %d files, want some of both or none", len(u.Versions), len(u.Files))
	}
	for i, v := range u.Versions {
		if !channelName.MatchString(v) && !isVersion(v) {
			return fmt.Errorf("upstream.versions[%d]: got %q, want a version such as v1.36.2 or a channel such as stable-1.36", i, v)
		}
		if slices.Contains(u.Versions[:i], v) {
			return fmt.Errorf("upstream.versions[%d]: %s is given twice", i, v)
		}
	}
	for i, proof := range u.Require {
		switch proof {
		case upstream.Checksum, upstream.Pinned, upstream.Signature:
		default:
			return fmt.Errorf("upstream.require[%d]: got %q, want pin, signature or checksum", i, proof)
		}
	}
	for i, base := range append(slices.Clone(u.Bases), u.Rekor) {
		field := fmt.Sprintf("upstream.bases[%d]", i)
		if i == len(u.Bases) {
			field = "upstream.rekor"
		}
		if err := checkURL(base); err != nil && (base != "" || i < len(u.Bases)) {
			return at(err, "%s", field)
		}
	}
	for i, f := range u.Files {
		if err := f.validate(); err != nil {
			return at(err, "upstream.files[%d]", i)
		}
	}
	return nil
}

// isVersion reports whether v is a version as Kubernetes writes it.
func isVersion(v string) bool { return semver.IsValid(v) && semver.Canonical(v) == v }

func (f UpstreamFile) validate() error {
	switch {
	case (f.Member == "") == (f.Name == ""):
		return errors.New("want exactly one of member, in the node tarball, and name, of a binary on its own")
	case f.Name != "" && !binaryName.MatchString(f.Name):
		return fmt.Errorf("name: got %q, want the name of a binary", f.Name)
	case f.Member != "" && (path.Clean(f.Member) != f.Member || strings.HasPrefix(f.Member, "/") || strings.HasPrefix(f.Member, "..")):
		return fmt.Errorf("member: got %q, want a clean path relative to the tarball", f.Member)
	}
	return nil
}

func checkURL(s string) error {
	u, err := url.Parse(s)
	if err != nil {
		return err
	}
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.RawQuery != "" || u.Fragment != "" || u.User != nil {
		return fmt.Errorf("got %q, want the URL of a directory: https://…", u.Redacted())
	}
	return nil
}

func (s *Spec) validatePackages() error {
	p := s.Packages
	if len(p.Suites) == 0 {
		if len(s.variant(s.variants()[0]).Packages.Install) > 0 || p.Keyring != "" {
			return errors.New("packages.suites: none given, want a name such as trixie")
		}
		return nil
	}
	for i, suite := range p.Suites {
		if !suiteName.MatchString(suite) {
			return fmt.Errorf("packages.suites[%d]: got %q, want a name such as trixie", i, suite)
		}
		if slices.Contains(p.Suites[:i], suite) {
			return fmt.Errorf("packages.suites[%d]: %s is given twice", i, suite)
		}
	}
	if p.Keyring == "" || path.Base(p.Keyring) != p.Keyring || strings.HasPrefix(p.Keyring, ".") {
		return fmt.Errorf("packages.keyring: got %q, want the name of a file beside %s", p.Keyring, SpecFile)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Archives)) {
		if !archiveName.MatchString(name) {
			return fmt.Errorf("packages.archives: got %q, want debian or debian-security", name)
		}
		if err := checkURL(p.Archives[name]); err != nil {
			return at(err, "packages.archives.%s", name)
		}
	}
	for i, g := range p.Exclude {
		if err := rootfs.CheckGlob(g); err != nil {
			return at(err, "packages.exclude[%d]", i)
		}
	}
	for i, g := range p.Keep {
		if err := rootfs.CheckGlob(g); err != nil {
			return at(err, "packages.keep[%d]", i)
		}
	}
	return nil
}

func (s *Spec) validateInstall() error {
	seen := make(map[string]bool)
	for _, name := range s.Packages.Install {
		if !packageName.MatchString(name) {
			return fmt.Errorf("packages.install: got %q, want the name of a package", name)
		}
		if seen[name] {
			return fmt.Errorf("packages.install: %s is given twice", name)
		}
		seen[name] = true
	}
	return nil
}

func (s *Spec) validateAccounts() error {
	for i, g := range s.Groups {
		for _, name := range append([]string{g.Name}, g.Members...) {
			if !accountName.MatchString(name) {
				return fmt.Errorf("groups[%d]: got %q, want a name of lower-case letters and digits", i, name)
			}
		}
		if err := checkID(g.GID); err != nil {
			return at(err, "groups[%d].gid", i)
		}
	}
	for i, u := range s.Users {
		if !accountName.MatchString(u.Name) {
			return fmt.Errorf("users[%d].name: got %q, want a name of lower-case letters and digits", i, u.Name)
		}
		if err := checkID(u.UID); err != nil {
			return at(err, "users[%d].uid", i)
		}
		if err := checkID(u.GID); err != nil {
			return at(err, "users[%d].gid", i)
		}
		for field, value := range map[string]string{"comment": u.Comment, "home": u.Home, "shell": u.Shell} {
			if strings.ContainsAny(value, ":\n\x00") {
				return fmt.Errorf("users[%d].%s: got %q, want no colon and no line break", i, field, value)
			}
		}
	}
	return nil
}

// checkID accepts what is a user or group of its own: 0 is root.
func checkID(id int) error {
	if id < 1 || id > 65535 {
		return fmt.Errorf("got %d, want a number from 1 to 65535", id)
	}
	return nil
}

// validatePaths checks every path that the spec puts into the image: absolute,
// clean, and no two alike, also where case does not count (a file system or a registry tool that folds case would lose one).
func (s *Spec) validatePaths() error {
	seen := make(map[string]string)
	add := func(p, format string, args ...any) error {
		field := fmt.Sprintf(format, args...)
		if err := checkPath(p); err != nil {
			return at(err, "%s", field)
		}
		if other, again := seen[strings.ToLower(p)]; again {
			return fmt.Errorf("%s: %s collides with %s", field, p, other)
		}
		seen[strings.ToLower(p)] = field
		return nil
	}
	for i, f := range s.Upstream.Files {
		if err := add(f.Path, "upstream.files[%d].path", i); err != nil {
			return err
		}
	}
	for i, f := range s.Local {
		if err := add(f.Path, "local[%d].path", i); err != nil {
			return err
		}
	}
	for i, d := range s.Directories {
		if err := cmp.Or(add(d.Path, "directories[%d].path", i), at(checkOwner(d.Owner), "directories[%d]", i)); err != nil {
			return err
		}
	}
	for i, f := range s.Files {
		if err := cmp.Or(add(f.Path, "files[%d].path", i), at(checkFile(f), "files[%d]", i)); err != nil {
			return err
		}
	}
	for i, l := range s.Links {
		if err := add(l.Path, "links[%d].path", i); err != nil {
			return err
		}
		if l.Target == "" || strings.ContainsAny(l.Target, "\x00\n") {
			return fmt.Errorf("links[%d].target: got %q, want a path", i, l.Target)
		}
	}
	return nil
}

func checkPath(p string) error {
	if !strings.HasPrefix(p, "/") || p == "/" || path.Clean(p) != p || strings.ContainsAny(p, "\x00\n\\") {
		return fmt.Errorf("got %q, want an absolute clean path", p)
	}
	if strings.HasPrefix(path.Base(p), ".wh.") {
		return fmt.Errorf("got %q: names that start with .wh. mean a deletion in an image layer", p)
	}
	return nil
}

func checkFile(f rootfs.File) error {
	if f.Copy != "" {
		if f.Content != "" {
			return errors.New("want only one of copy and content")
		}
		if err := checkPath(f.Copy); err != nil {
			return at(err, "copy")
		}
	}
	return checkOwner(f.Owner)
}

func checkOwner(o rootfs.Owner) error {
	if o.Mode != "" && !octalMode.MatchString(o.Mode) {
		return fmt.Errorf("mode: got %q, want an octal number such as \"0755\"", o.Mode)
	}
	for _, name := range []string{o.User, o.Group} {
		if name != "" && !accountName.MatchString(name) {
			return fmt.Errorf("owner: got %q, want the name of a user or group", name)
		}
	}
	return nil
}

func (s *Spec) validateAlternatives() error {
	choices := make(map[string]bool)
	for i, a := range s.Alternatives {
		if choices[a.Name+"\x00"+a.Path] {
			return fmt.Errorf("alternatives[%d]: %s for %s is given twice", i, a.Path, a.Name)
		}
		choices[a.Name+"\x00"+a.Path] = true
		if err := checkAlternative(a.Name, a.Link, a.Path); err != nil {
			return at(err, "alternatives[%d]", i)
		}
		for j, slave := range a.Slaves {
			if err := checkAlternative(slave.Name, slave.Link, slave.Path); err != nil {
				return at(err, "alternatives[%d].slaves[%d]", i, j)
			}
		}
	}
	return nil
}

func checkAlternative(name, link, target string) error {
	if !alternative.MatchString(name) {
		return fmt.Errorf("name: got %q, want a file name", name)
	}
	return cmp.Or(at(checkPath(link), "link"), at(checkPath(target), "path"))
}

func (s *Spec) validateConfig() error {
	for _, name := range slices.Sorted(maps.Keys(s.Environment)) {
		if !envName.MatchString(name) || strings.Contains(s.Environment[name], "\x00") {
			return fmt.Errorf("environment: got %q, want a name of letters, digits and underscores", name)
		}
	}
	for field, c := range map[string]layer.Compression{"packages": s.Compression.Packages, "programs": s.Compression.Programs} {
		if err := c.Validate(); err != nil {
			return at(err, "compression.%s", field)
		}
	}
	if s.User != "" && !userName.MatchString(s.User) {
		return fmt.Errorf("user: got %q, want a name or number, with :group or without", s.User)
	}
	if s.Workdir != "" && s.Workdir != "/" {
		if err := checkPath(s.Workdir); err != nil {
			return at(err, "workdir")
		}
	}
	for field, m := range map[string]map[string]string{"labels": s.Labels, "annotations": s.Annotations} {
		for name := range m {
			if name == "" || strings.ContainsAny(name, " \t\n\x00") {
				return fmt.Errorf("%s: got %q, want a name without white space", field, name)
			}
		}
	}
	if len(s.Entrypoint) == 0 && len(s.Cmd) == 0 {
		return errors.New("entrypoint: none given, and no cmd")
	}
	return nil
}
