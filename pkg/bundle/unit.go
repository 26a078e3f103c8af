package bundle

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// unit writes a systemd unit file (systemd.syntax(7)). The first value that a
// unit file cannot hold is kept in err and nothing is written after it.
type unit struct {
	buf bytes.Buffer
	err error
}

// section starts a section.
func (u *unit) section(name string) {
	if u.buf.Len() > 0 {
		u.buf.WriteByte('\n')
	}
	fmt.Fprintf(&u.buf, "[%s]\n", name)
}

// set writes a setting whose value systemd takes as it is but for specifiers.
func (u *unit) set(key, value string) {
	err := writable(value)
	if err == nil && (strings.TrimSpace(value) != value || strings.HasSuffix(value, `\`)) {
		err = fmt.Errorf("%q: white space around a value or a backslash at its end would be lost", value)
	}
	if err != nil {
		u.fail(key, err)
		return
	}
	fmt.Fprintf(&u.buf, "%s=%s\n", key, strings.ReplaceAll(value, "%", "%%"))
}

// environment writes an assignment. Here systemd expands specifiers, not variables.
func (u *unit) environment(name, value string) {
	if err := writable(value); err != nil {
		u.fail("Environment="+name, err)
		return
	}
	fmt.Fprintf(&u.buf, "Environment=%s\n", quote(name+"="+value))
}

// exec writes a command line. prefix is empty, or "-": its failure is ignored.
func (u *unit) exec(key, prefix string, args ...word) {
	fmt.Fprintf(&u.buf, "%s=%s", key, prefix)
	for i, a := range args {
		if err := writable(string(a)); err != nil {
			u.fail(key, err)
			return
		}
		switch {
		case i > 0 && len(args) > 6 && (slices.Contains(variables, a) || strings.HasPrefix(string(a), "--")):
			u.buf.WriteString(" \\\n  ") // a flag a line, so that a difference shows which
		case i > 0:
			u.buf.WriteByte(' ')
		}
		u.buf.WriteString(a.exec())
	}
	u.buf.WriteByte('\n')
}

func (u *unit) fail(key string, err error) {
	if u.err == nil {
		u.err = fmt.Errorf("%s: %w", key, err)
	}
}

// bytes returns the file.
func (u *unit) bytes() ([]byte, error) { return bytes.Clone(u.buf.Bytes()), u.err }

// word is one argument of a command line, as the command is to get it.
type word string

// The words that systemd is to expand. imagesPath sets the first two, a file of
// the machine's own the last.
const (
	imageVariable  word = "${KUBELET_IMAGE}"
	etcdVariable   word = "${ETCD_IMAGE}"
	bundleVariable word = "${BUNDLE}"
)

var variables = []word{imageVariable, etcdVariable, bundleVariable}

// exec returns the word as a command line must spell it: what would be a
// specifier or a variable is doubled, and white space, quotes and backslashes
// are put between quotes.
func (w word) exec() string {
	if slices.Contains(variables, w) {
		return string(w)
	}
	return quote(strings.ReplaceAll(string(w), "$", "$$"))
}

// quote spells s so that systemd reads one word, s. It must be writable.
func quote(s string) string {
	s = strings.ReplaceAll(s, "%", "%%")
	if s != "" && !strings.ContainsAny(s, " \t'\"\\;#") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// writable reports why a unit file cannot hold s. A line break would start a
// new setting (CATALOGUE K01); what else is not printable has no business there.
func writable(s string) error {
	if !utf8.ValidString(s) {
		return fmt.Errorf("%q is not UTF-8", s)
	}
	if i := strings.IndexFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u0085' || r == '\u2028' || r == '\u2029' }); i >= 0 {
		return fmt.Errorf("%q: %q cannot be in a unit file", s, s[i])
	}
	return nil
}
