package node

import (
	"os"
	"path/filepath"
	"testing"
)

func TestTheFamilyIsWhatOSReleaseSays(t *testing.T) {
	for name, tt := range map[string]struct{ release, want string }{
		"Fedora CoreOS":       {"NAME=\"Fedora Linux\"\nID=fedora\nVERSION_ID=43\nVARIANT_ID=coreos\n", "fcos"},
		"Fedora, no CoreOS":   {"ID=fedora\nVARIANT_ID=server\n", ""},
		"Flatcar":             {"ID=flatcar\nID_LIKE=coreos\n", "flatcar"},
		"Debian":              {"PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\n", "debian"},
		"like Debian":         {"ID=ubuntu\nID_LIKE=debian\n", "debian"},
		"quotes":              {"ID='debian'\n", "debian"},
		"a comment":           {"#ID=debian\nID=arch\n", ""},
		"nothing":             {"", ""},
		"a line without a =":  {"ID\n=debian\n", ""},
		"a key that is alike": {"BUILD_ID=debian\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			if err := os.Mkdir(filepath.Join(root, "etc"), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(root, "etc/os-release"), []byte(tt.release), 0o644); err != nil {
				t.Fatal(err)
			}
			if got, err := Family(root); got != tt.want || err != nil {
				t.Errorf("got %q, %v, want %q", got, err, tt.want)
			}
		})
	}
	if got, err := Family(t.TempDir()); got != "" || err != nil {
		t.Errorf("a machine without os-release: got %q, %v", got, err)
	}
	if _, err := Family(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a root that is not there: got no error")
	}
}

func FuzzFamily(f *testing.F) {
	f.Add([]byte("ID=fedora\nVARIANT_ID=coreos\n"))
	f.Add([]byte("ID_LIKE=\"a b debian\"\n"))
	f.Fuzz(func(t *testing.T, release []byte) {
		if got := familyOf(release); got != "" && got != "fcos" && got != "flatcar" && got != "debian" {
			t.Errorf("got %q", got)
		}
	})
}
