package node

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// maxRelease bounds an os-release file; a real one has less than 1 KiB.
const maxRelease = 64 << 10

// Family returns the family of operating systems that the machine at root is of,
// as its os-release says: "fcos", "flatcar" or "debian". "" is another one, or one
// that does not say.
func Family(root string) (string, error) {
	r, err := os.OpenRoot(root)
	if err != nil {
		return "", fmt.Errorf("open the machine's root: %w", err)
	}
	defer r.Close()
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} { // os-release(5)
		f, err := r.Open(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("read os-release: %w", err)
		}
		data, err := io.ReadAll(io.LimitReader(f, maxRelease))
		f.Close()
		if err != nil {
			return "", fmt.Errorf("read os-release: %w", err)
		}
		return familyOf(data), nil
	}
	return "", nil
}

// familyOf reads an os-release: lines of KEY=value, with quotes or without.
func familyOf(release []byte) string {
	values := make(map[string]string)
	for s := bufio.NewScanner(bytes.NewReader(release)); s.Scan(); {
		key, value, ok := strings.Cut(strings.TrimSpace(s.Text()), "=")
		if ok && !strings.HasPrefix(key, "#") {
			values[key] = strings.Trim(value, `"'`)
		}
	}
	like := append(strings.Fields(values["ID_LIKE"]), values["ID"])
	switch {
	case values["ID"] == "fedora" && values["VARIANT_ID"] == "coreos":
		return "fcos"
	case values["ID"] == "flatcar":
		return "flatcar"
	case slices.Contains(like, "debian"):
		return "debian"
	}
	return ""
}
