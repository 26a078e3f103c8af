package build

import (
	"bytes"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/strict"
)

const editable = "apiVersion: imgctl.dev/v1\nkind: Image\nplatforms: [linux/amd64]\nupstream:\n  versions: [v1.35.1, \"v1.36.2\"] # two\nentrypoint: [/x]\n"

func TestVersionsAreReplacedWhereTheyStand(t *testing.T) {
	for name, tt := range map[string]struct{ text, want string }{
		"in one line":            {editable, strings.Replace(editable, "v1.36.2", "v1.36.10", 1)},
		"also elsewhere":         {strings.Replace(editable, "[/x]", "[/x, v1.36.2]", 1), strings.Replace(strings.Replace(editable, "[/x]", "[/x, v1.36.2]", 1), "v1.36.2", "v1.36.10", 1)},
		"behind other letters":   {strings.Replace(editable, "[v1.35.1", "[ 'v1.35.1' ", 1), strings.Replace(strings.Replace(editable, "[v1.35.1", "[ 'v1.35.1' ", 1), "v1.36.2", "v1.36.10", 1)},
		"with carriage returns":  {strings.ReplaceAll(editable, "\n", "\r\n"), strings.Replace(strings.ReplaceAll(editable, "\n", "\r\n"), "v1.36.2", "v1.36.10", 1)},
		"without a last newline": {strings.TrimSpace(editable), strings.Replace(strings.TrimSpace(editable), "v1.36.2", "v1.36.10", 1)},
	} {
		got, err := replaceVersions("image.yaml", []byte(tt.text), []string{"v1.35.1", "v1.36.10"})
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %v\n%s\nwant\n%s", name, err, got, tt.want)
		}
	}
	for name, versions := range map[string][]string{"more": {"v1.35.1", "v1.36.2", "v1.37.0"}, "fewer": {"v1.35.2"}} {
		if got, err := replaceVersions("image.yaml", []byte(editable), versions); err == nil {
			t.Errorf("%s than there are: got\n%s", name, got)
		}
	}
	anchored := strings.Replace(editable, "v1.35.1, ", "&old v1.35.1, ", 1)
	if got, err := replaceVersions("image.yaml", []byte(anchored), []string{"v1.35.2", "v1.36.2"}); err == nil && !strings.Contains(string(got), "&old v1.35.2,") {
		t.Errorf("got\n%s", got)
	}
}

// Whatever the file looks like: the versions are replaced and nothing else is, or
// the file is refused.
func FuzzReplaceVersions(f *testing.F) {
	f.Add([]byte(editable), "v1.36.10")
	f.Add([]byte(strings.ReplaceAll(editable, "[v1.35.1, \"v1.36.2\"]", "\n  - v1.35.1\n  - >-\n    v1.36.2")), "v2")
	f.Add([]byte("{apiVersion: imgctl.dev/v1, kind: Image, upstream: {versions: [\"v\\u0031\", &a x, *a]}}"), "v1.0.0")
	f.Fuzz(func(t *testing.T, data []byte, version string) {
		var before Spec
		if strict.Decode("image.yaml", data, "Image", &before) != nil || !isVersion(version) {
			return
		}
		old := before.Upstream.Versions
		want := make([]string, len(old))
		for i := range want {
			want[i] = version
		}
		edited, err := replaceVersions("image.yaml", data, want)
		if err != nil {
			return
		}
		again, err := replaceVersions("image.yaml", edited, old)
		if err != nil || !bytes.Equal(again, data) {
			t.Errorf("got %v, back from\n%q\nto\n%q\nwant\n%q", err, edited, again, data)
		}
	})
}
