package content_test

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

func sum(s string) string { return fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(s))) }

func sample() *content.Bundle {
	return &content.Bundle{
		APIVersion: content.APIVersion, Kind: content.Kind, Name: "typhoon", Version: "v1.36.2", Family: "fcos", Role: "worker",
		Files: []content.File{
			{Path: "/etc/kubernetes/kubelet.yaml", Mode: 0o644, Owner: "root", Group: "root", Type: "etc_t", Digest: sum("a"), Size: 1},
			{Path: "/etc/systemd/system/kubelet.service", Mode: 0o644, Owner: "root", Group: "root", Type: "etc_t", Digest: sum("b"), Size: 1},
			{Path: "/opt/bootstrap/apply", Mode: 0o755, Owner: "somebody", Group: "some-group", UID: 65534, GID: 7, Type: "bin_t", Digest: sum("c"), Size: 0},
		},
		Images: map[string]string{"kubelet": "quay.io/poseidon/kubelet@" + sum("image")},
	}
}

func TestReadGivesBackWhatMarshalWrote(t *testing.T) {
	want := sample()
	data, err := want.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := content.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if !bytes.Contains(data, []byte(`"mode":"0755"`)) {
		t.Errorf("mode is not four octal digits in %s", data)
	}
}

// Each row changes one thing in a list that is otherwise accepted (the test above).
func TestReadRefusesWhatMarshalWouldNotWrite(t *testing.T) {
	data, err := sample().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ old, new, want string }{
		"unknown key":             {`"name":`, `"extra":1,"name":`, "unknown field"},
		"duplicate key":           {`"name":"typhoon"`, `"name":"other","name":"typhoon"`, "canonical"},
		"key in another case":     {`"name":`, `"Name":`, "canonical"},
		"white space":             {`"files":[`, `"files": [`, "canonical"},
		"a second value":          {`}}`, `}}{}`, "canonical"},
		"an escape":               {`"typhoon"`, `"\u0074yphoon"`, "canonical"},
		"other kind":              {`"BundleContent"`, `"Bundle"`, "want"},
		"other version":           {`imgctl.dev/v1`, `imgctl.dev/v2`, "want"},
		"no files":                {`"files":[`, `"files":[],"f":[`, "unknown field"},
		"setuid":                  {`"0755"`, `"4755"`, "four octal digits"},
		"sticky":                  {`"0755"`, `"1755"`, "four octal digits"},
		"mode as a number":        {`"0755"`, `493`, "cannot unmarshal"},
		"mode of three digits":    {`"0755"`, `"755"`, "four octal digits"},
		"mode with a sign":        {`"0755"`, `"+755"`, "four octal digits"},
		"negative owner":          {`"uid":65534`, `"uid":-1`, "cannot unmarshal"},
		"owner that is none":      {`"uid":65534`, `"uid":4294967295`, "is no owner"},
		"owner that is no name":   {`"somebody"`, `"0"`, "want names"},
		"group that is an option": {`"some-group"`, `"-g"`, "want names"},
		"type of no form":         {`"bin_t"`, `"bin"`, "want one of SELinux"},
		"no family":               {`"fcos"`, `""`, "kind of machine"},
		"role":                    {`"worker"`, `"../worker"`, "kind of machine"},
		"the list's own name":     {`/etc/kubernetes/kubelet.yaml`, `/bundle.lock`, "the list itself"},
		"negative size":           {`"size":0`, `"size":-1`, "size -1"},
		"too large a file":        {`"size":0`, `"size":4194305`, "size 4194305"},
		"digest of another sort":  {sum("a"), strings.Replace(sum("a"), "sha256", "sha512", 1), "digest"},
		"digest in capitals":      {sum("a"), "sha256:" + strings.ToUpper(sum("a")[7:]), "digest"},
		"parent directory (N05)":  {`/etc/kubernetes/kubelet.yaml`, `/etc/../kubelet.yaml`, "clean path"},
		"relative path (N05)":     {`/etc/kubernetes/kubelet.yaml`, `etc/kubelet.yaml`, "absolute"},
		"root (N05)":              {`/etc/kubernetes/kubelet.yaml`, `/`, "clean path"},
		"trailing slash (N05)":    {`/etc/kubernetes/kubelet.yaml`, `/etc/kubernetes/`, "clean path"},
		"empty path (N05)":        {`/etc/kubernetes/kubelet.yaml`, ``, "empty"},
		"NUL (N05)":               {`/etc/kubernetes/kubelet.yaml`, `/etc/a\u0000b`, "not allowed"},
		"leading dash (N05)":      {`/etc/kubernetes/kubelet.yaml`, `/etc/-rf`, "dash"},
		"not UTF-8 (N05)":         {`/etc/kubernetes/kubelet.yaml`, "/etc/\xff", "not allowed"},
		"composed letter (N09)":   {`/etc/kubernetes/kubelet.yaml`, "/etc/\u00e9", "not allowed"},
		"long path (N05)":         {`/etc/kubernetes/kubelet.yaml`, `/etc` + strings.Repeat("/a", 2048), "at most 1024"},
		"long segment (N05)":      {`/etc/kubernetes/kubelet.yaml`, `/etc/` + strings.Repeat("a", 256), "at most 255"},
		"duplicate (N09)":         {`/etc/kubernetes/kubelet.yaml`, `/etc/systemd/system/kubelet.service`, "listed twice"},
		"case twin (N09)":         {`/etc/kubernetes/kubelet.yaml`, `/etc/systemd/system/Kubelet.service`, "only in case"},
		"case twin above (N09)":   {`/etc/kubernetes/kubelet.yaml`, `/etc/Systemd/a`, "only in case"},
		"file as directory (N09)": {`/etc/kubernetes/kubelet.yaml`, `/etc/systemd`, "both a file and a directory"},
		"not in order":            {`/etc/kubernetes/kubelet.yaml`, `/opt/z`, "ascending order"},
		"image with a tag (K07)":  {`poseidon/kubelet@`, `poseidon/kubelet:v1@`, "quay.io/poseidon/kubelet:v1@"},
		"image without a digest":  {`kubelet@` + sum("image"), `kubelet:v1.36.2`, "not pinned"},
		"image without registry":  {`quay.io/poseidon/kubelet@`, `kubelet@`, "kubelet@"},
		"bundle name":             {`"typhoon"`, `"../typhoon"`, "name"},
		"bundle version":          {`"v1.36.2"`, `"{version}"`, "version"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := bytes.Replace(data, []byte(tt.old), []byte(tt.new), 1)
			if bytes.Equal(changed, data) {
				t.Fatalf("%q is not in %s", tt.old, data)
			}
			_, err := content.Read(changed)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want one line with %q", err, tt.want)
			}
		})
	}
}

func TestReadIsBounded(t *testing.T) {
	if _, err := content.Read(bytes.Repeat([]byte(" "), content.MaxSize+1)); err == nil || !strings.Contains(err.Error(), "at most 1048576") {
		t.Errorf("got %v, want it refused for its size", err)
	}
	many := func(n int, size int64) *content.Bundle {
		b := sample()
		b.Files = nil
		for i := range n {
			b.Files = append(b.Files, content.File{Path: fmt.Sprintf("/etc/%04d", i), Mode: 0o644, Owner: "root", Group: "root", Type: "etc_t", Digest: sum("a"), Size: size})
		}
		return b
	}
	if err := many(content.MaxFiles, 1).Check(); err != nil {
		t.Errorf("as many files as are allowed: %v", err)
	}
	if err := many(content.MaxFiles+1, 1).Check(); err == nil {
		t.Error("accepted one file too many")
	}
	if err := many(0, 1).Check(); err == nil {
		t.Error("accepted a bundle of no files")
	}
	if err := many(16, content.MaxFileSize).Check(); err != nil {
		t.Errorf("as many bytes as are allowed: %v", err)
	}
	if err := many(17, content.MaxFileSize).Check(); err == nil {
		t.Error("accepted too many bytes")
	}
}

func TestMarshalWritesNothingThatReadRefuses(t *testing.T) {
	for name, spoil := range map[string]func(*content.Bundle){
		"setuid":    func(b *content.Bundle) { b.Files[0].Mode = 0o4755 },
		"directory": func(b *content.Bundle) { b.Files[0].Mode = 1 << 31 },
		"kind":      func(b *content.Bundle) { b.Kind = "" },
		"image":     func(b *content.Bundle) { b.Images["kubelet"] = "" },
		"label":     func(b *content.Bundle) { b.Images["Kube let"] = b.Images["kubelet"] },
	} {
		t.Run(name, func(t *testing.T) {
			b := sample()
			spoil(b)
			if data, err := b.Marshal(); err == nil {
				t.Errorf("wrote %s", data)
			}
		})
	}
}

var listed = v1.Descriptor{Digest: v1.Hash{Algorithm: "sha256", Hex: sum("list")[7:]}, Size: 4}

func layersOf(b *content.Bundle) []v1.Descriptor {
	list := listed
	list.Annotations = map[string]string{content.TitleAnnotation: "bundle.lock"}
	layers := []v1.Descriptor{list}
	for _, f := range b.Files {
		h, _ := v1.NewHash(f.Digest)
		layers = append(layers, v1.Descriptor{Digest: h, Size: f.Size, Annotations: map[string]string{content.TitleAnnotation: f.Path[1:]}})
	}
	return layers
}

func TestLayersAreTheListAndItsFiles(t *testing.T) {
	b := sample()
	if err := b.CheckLayers(listed, layersOf(b)); err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func([]v1.Descriptor) []v1.Descriptor{
		"one more":           func(l []v1.Descriptor) []v1.Descriptor { return append(l, l[1]) },
		"one less":           func(l []v1.Descriptor) []v1.Descriptor { return l[:len(l)-1] },
		"no list":            func(l []v1.Descriptor) []v1.Descriptor { return l[1:] },
		"title":              func(l []v1.Descriptor) []v1.Descriptor { l[1].Annotations = nil; return l },
		"title of the list":  func(l []v1.Descriptor) []v1.Descriptor { l[0].Annotations = nil; return l },
		"digest":             func(l []v1.Descriptor) []v1.Descriptor { l[1].Digest = l[2].Digest; return l },
		"digest of the list": func(l []v1.Descriptor) []v1.Descriptor { l[0].Digest = l[1].Digest; return l },
		"size":               func(l []v1.Descriptor) []v1.Descriptor { l[1].Size++; return l },
		"size of the list":   func(l []v1.Descriptor) []v1.Descriptor { l[0].Size++; return l },
	} {
		t.Run(name, func(t *testing.T) {
			if err := b.CheckLayers(listed, spoil(layersOf(b))); err == nil {
				t.Error("accepted")
			}
		})
	}
}

// N20: one entry is for a machine, or none.
func TestPickFindsTheOneBundleForAMachine(t *testing.T) {
	entry := func(family, role string, n int64) v1.Descriptor {
		return v1.Descriptor{Size: n, ArtifactType: content.ArtifactType, Annotations: content.Machine{Family: family, Role: role}.Annotations()}
	}
	flux := entry("fcos", "worker", 9)
	flux.ArtifactType = "application/vnd.cncf.flux.config.v1+json"
	index := &v1.IndexManifest{Manifests: []v1.Descriptor{flux, entry("fcos", "controller", 1), entry("fcos", "worker", 2), entry("debian", "worker", 3), entry("debian", "worker", 4), {}}}
	for name, tt := range map[string]struct {
		machine content.Machine
		size    int64  // 0: refused
		want    string // in the error
	}{
		"a controller":     {content.Machine{Family: "fcos", Role: "controller"}, 1, ""},
		"a worker":         {content.Machine{Family: "fcos", Role: "worker"}, 2, ""},
		"two for one":      {content.Machine{Family: "debian", Role: "worker"}, 0, "got 2 bundles"},
		"another role":     {content.Machine{Family: "debian", Role: "controller"}, 0, `only for "fcos-controller"`},
		"no role":          {content.Machine{Family: "fcos"}, 0, `role ""`},
		"no family":        {content.Machine{Role: "worker"}, 0, `family ""`},
		"nothing":          {content.Machine{}, 0, `family ""`},
		"the other family": {content.Machine{Family: "flatcar", Role: "worker"}, 0, `family "flatcar"`},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := content.Pick(index, tt.machine)
			if d.Size != tt.size || (err == nil) != (tt.size > 0) || err != nil && !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %d, %v, want %d, %q", d.Size, err, tt.size, tt.want)
			}
		})
	}
}

func FuzzRead(f *testing.F) {
	data, err := sample().Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add(bytes.Replace(data, []byte("/etc"), []byte("/../etc"), 1))
	f.Add([]byte(`{"files":[{"path":"/a","mode":"7777"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := content.Read(data)
		if err != nil {
			return
		}
		again, err := b.Marshal()
		if err != nil || !bytes.Equal(again, data) {
			t.Fatalf("read accepted what marshal does not write: %v", err)
		}
		for _, file := range b.Files {
			if strings.Contains(file.Path, "..") && strings.Contains(file.Path+"/", "/../") {
				t.Fatalf("accepted %q", file.Path)
			}
		}
	})
}

func TestOnlyAFullNameWithADigestIsPinned(t *testing.T) {
	for repository, want := range map[string]bool{
		"quay.io/poseidon/kubelet":            true,
		"docker.io/psdn/kubelet":              true,
		"127.0.0.1:5000/kubelet":              true,
		"localhost/a/b__c.d-e":                true,
		"[::1]:5000/a":                        true,
		"kubelet":                             false,
		"psdn/kubelet":                        false,
		"quay.io":                             false,
		"quay.io/":                            false,
		"quay.io//a":                          false,
		"quay.io/poseidon/kubelet:v1.36.2":    false,
		"quay.io/Poseidon/kubelet":            false,
		"docker://quay.io/poseidon/kubelet":   false,
		"https://quay.io/a":                   false,
		"user:pass@quay.io/a":                 false,
		"oci:dist/kubelet":                    false,
		"qu\u0430y.io/a":                      false, // a Cyrillic letter (C07)
		"quay.io/%h":                          false,
		"quay.io/a b":                         false,
		"quay.io/a\n":                         false,
		"":                                    false,
		"quay.io/" + strings.Repeat("a", 255): false,
	} {
		if err := content.CheckPinned(repository + "@" + sum("image")); (err == nil) != want {
			t.Errorf("%q: got %v, want accepted %t", repository, err, want)
		}
	}
}
