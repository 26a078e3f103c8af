package oci_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// published is a registry that holds a release, and its repository.
func published(t *testing.T, o imgtest.RegistryOptions, size int) (*imgtest.Registry, *oci.Repository, *fixture) {
	t.Helper()
	reg, f := imgtest.StartRegistry(t, o), newFixture(t, size)
	name := reg.Host() + "/kubelet"
	_, err := newClient().Publish(t.Context(), f.release(t, "v1"), oci.Destination{Repository: name})
	check(t, err)
	reg.Forget()
	repo, err := newClient().Repository(name)
	check(t, err)
	return reg, repo, f
}

// R11, R12: the digest is that of the bytes, whatever the header says.
func TestR11R12ManifestOfOtherBytesIsRefused(t *testing.T) {
	for name, edit := range map[string]func(*imgtest.Answer){
		"one byte":  func(a *imgtest.Answer) { a.Body[len(a.Body)-2] ^= 1 },
		"truncated": func(a *imgtest.Answer) { a.Body = a.Body[:len(a.Body)/2] },
		"empty":     func(a *imgtest.Answer) { a.Body = nil },
		"another": func(a *imgtest.Answer) {
			a.Body = []byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`)
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg, repo, f := published(t, imgtest.RegistryOptions{}, 10)
			if _, err := repo.Manifest(t.Context(), f.digest(t)); err != nil {
				t.Fatal(err) // the sibling that must pass
			}
			reg.On(imgtest.Fault{Method: "GET", Path: "/manifests/", Edit: edit})
			m, err := repo.Manifest(t.Context(), f.digest(t))
			var de *oci.DigestError
			if m != nil || !errors.As(err, &de) || !strings.Contains(err.Error(), repo.String()) {
				t.Errorf("got %v, %v; want a *DigestError that names the registry", m, err)
			}
		})
	}
}

// R12: a body that is cut is an outage, not content.
func TestR12ManifestThatIsCutIsUnreachable(t *testing.T) {
	reg, repo, f := published(t, imgtest.RegistryOptions{}, 10)
	reg.On(imgtest.Fault{Method: "GET", Path: "/manifests/", Cut: 20})
	if _, err := repo.Manifest(t.Context(), f.digest(t)); !oci.Unreachable(err) {
		t.Errorf("got %v, want it unreachable", err)
	}
}

const (
	imageType = string(types.OCIManifestSchema1)
	indexType = string(types.OCIImageIndex)
	emptyDesc = `{"mediaType":"application/vnd.oci.empty.v1+json","size":2,"digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"}`
)

// R14, R33: what two readers could take for two things is neither.
func TestR14R33ManifestMustBeOneThing(t *testing.T) {
	image := `"schemaVersion":2,"mediaType":"` + imageType + `","config":` + emptyDesc + `,"layers":[` + emptyDesc + `]`
	index := `"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[]`
	for name, tt := range map[string]struct{ contentType, body, want string }{
		"an image":                    {imageType, `{` + image + `}`, ""},
		"an index":                    {indexType, `{` + index + `}`, ""},
		"no header":                   {"", `{` + image + `}`, ""},
		"no mediaType":                {indexType, `{"schemaVersion":2,"manifests":[]}`, ""},
		"neither":                     {"", `{"schemaVersion":2,"manifests":[]}`, ""},
		"parameters":                  {imageType + "; charset=utf-8", `{` + image + `}`, ""},
		"unknown fields":              {imageType, `{` + image + `,"x":{"Size":1}}`, `key "Size"`},
		"free annotations":            {imageType, `{` + image + `,"annotations":{"Size":"1","size":"2"}}`, ""},
		"header and body differ":      {indexType, `{` + image + `}`, "Content-Type is"},
		"octet-stream":                {"application/octet-stream", `{` + image + `}`, "Content-Type is"},
		"both shapes":                 {imageType, `{` + image + `,"manifests":[]}`, "both an image and an index"},
		"no shape":                    {imageType, `{"schemaVersion":2,"mediaType":"` + imageType + `"}`, "neither"},
		"an index that says image":    {imageType, `{"schemaVersion":2,"mediaType":"` + imageType + `","manifests":[]}`, "does not look so"},
		"an image without layers":     {imageType, `{"schemaVersion":2,"config":` + emptyDesc + `}`, "without config or layers"},
		"schema 1":                    {string(types.DockerManifestSchema1), `{"schemaVersion":1,"fsLayers":[]}`, "schemaVersion: got 1"},
		"schema 1 that says 2":        {string(types.DockerManifestSchema1Signed), `{"schemaVersion":2,"fsLayers":[],"layers":[],"config":{}}`, "schema 1"},
		"another type":                {"application/json", `{"schemaVersion":2,"config":` + emptyDesc + `,"layers":[]}`, "mediaType: got"},
		"HTML":                        {"text/html", `<html><body>502</body></html>`, "not a JSON object"},
		"a list":                      {imageType, `[]`, "not a JSON object"},
		"nothing":                     {imageType, ``, "not a JSON object"},
		"layers twice":                {imageType, `{` + image + `,"layers":[]}`, "twice"},
		"digest twice in a layer":     {imageType, `{"schemaVersion":2,"config":` + emptyDesc + `,"layers":[{"digest":"a","digest":"b"}]}`, "twice"},
		"mediaType twice, other case": {imageType, `{` + image + `,"MediaType":"` + indexType + `"}`, `want "mediaType"`},
		"manifests in other case":     {imageType, `{` + image + `,"Manifests":[]}`, `want "manifests"`},
		"two documents":               {imageType, `{` + image + `}{` + index + `}`, "after the JSON object"},
		"nested deep":                 {imageType, `{` + image + `,"x":` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `}`, "nested deeper"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := oci.ParseManifest([]byte(tt.body), tt.contentType)
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v, want it accepted", err)
				}
				return
			}
			if m != nil || !oci.Malformed(err) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// R16: at the limit is read, one byte more is not, declared or not.
func TestR16ManifestIsBounded(t *testing.T) {
	reg, repo, _ := published(t, imgtest.RegistryOptions{}, 10)
	head := `{"schemaVersion":2,"mediaType":"` + indexType + `","manifests":[],"annotations":{"x":"`
	body := head + strings.Repeat("x", oci.MaxManifest-len(head)-3) + `"}}`
	for extra, ok := range map[string]bool{"": true, " ": false} {
		for _, declared := range []bool{true, false} {
			whole := body + extra
			reg.Heal()
			reg.On(imgtest.Fault{Method: "GET", Path: "/manifests/sha256:", Edit: func(a *imgtest.Answer) {
				a.Status, a.Body = 200, []byte(whole)
				a.Header.Set("Content-Type", indexType)
				if declared {
					a.Header.Set("Content-Length", fmt.Sprint(len(whole)))
				}
			}})
			_, err := repo.Manifest(t.Context(), digestOf([]byte(whole)))
			if ok && err != nil || !ok && !oci.Malformed(err) {
				t.Errorf("%d bytes, declared %v: got %v", len(whole), declared, err)
			}
		}
	}
}

// R17, R18, R19: what a manifest names is checked before it is used.
func TestDescriptorsAreChecked(t *testing.T) {
	desc := func(size, digest string) string {
		return `{"mediaType":"a/b","size":` + size + `,"digest":"` + digest + `"}`
	}
	good := "sha256:" + hexB
	many := func(n int) string { return strings.TrimSuffix(strings.Repeat(desc("1", good)+",", n), ",") }
	for name, tt := range map[string]struct {
		layers string
		ok     bool
	}{
		"good":               {desc("1", good), true},
		"zero":               {desc("0", good), true},
		"at the cap":         {many(oci.MaxEntries), true},
		"above the cap":      {many(oci.MaxEntries + 2), false},
		"negative":           {desc("-1", good), false},
		"2^63":               {desc("9223372036854775808", good), false},
		"2^63-1":             {desc("9223372036854775807", good), false},
		"a fraction":         {desc("1.5", good), false},
		"63 digits":          {desc("1", good[:70]), false},
		"upper case":         {desc("1", "sha256:"+strings.ToUpper(hexB)), false},
		"md5":                {desc("1", "md5:"+hexB[:32]), false},
		"path":               {desc("1", "sha256:../x"), false},
		"empty":              {desc("1", ""), false},
		"sha512, 64 digits":  {desc("1", "sha512:"+hexB), false},
		"sha512, 128 digits": {desc("1", "sha512:"+hexB+hexB), false},
		"no type":            {`{"size":1,"digest":"` + good + `"}`, false},
		"other data":         {`{"mediaType":"a/b","size":2,"digest":"` + good + `","data":"e30="}`, false},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := oci.ParseManifest([]byte(`{"schemaVersion":2,"config":`+emptyDesc+`,"layers":[`+tt.layers+`]}`), imageType)
			check(t, err)
			if _, err := m.Image(); tt.ok && err != nil || !tt.ok && !oci.Malformed(err) {
				t.Errorf("image: got %v", err)
			}
			m, err = oci.ParseManifest([]byte(`{"schemaVersion":2,"manifests":[`+tt.layers+`]}`), indexType)
			check(t, err)
			if _, err := m.Index(); tt.ok && err != nil || !tt.ok && !oci.Malformed(err) {
				t.Errorf("index: got %v", err)
			}
		})
	}
}

// R17: a puller must not have to choose.
func TestPlatformThatIsThereTwiceIsRefused(t *testing.T) {
	entry := func(hex, os, arch, variant string) string {
		return fmt.Sprintf(`{"mediaType":%q,"size":1,"digest":"sha256:%s","platform":{"os":%q,"architecture":%q,"variant":%q}}`, imageType, hex, os, arch, variant)
	}
	for name, tt := range map[string]struct {
		entries []string
		ok      bool
	}{
		"two platforms":    {[]string{entry(hexA, "linux", "amd64", ""), entry(hexB, "linux", "arm64", "")}, true},
		"two variants":     {[]string{entry(hexA, "linux", "arm", "v6"), entry(hexB, "linux", "arm", "v7")}, true},
		"attestations":     {[]string{entry(hexA, "unknown", "unknown", ""), entry(hexB, "unknown", "unknown", "")}, true},
		"one twice":        {[]string{entry(hexA, "linux", "amd64", ""), entry(hexB, "linux", "amd64", "")}, false},
		"the same one too": {[]string{entry(hexA, "linux", "amd64", ""), entry(hexA, "linux", "amd64", "")}, false},
	} {
		m, err := oci.ParseManifest([]byte(`{"schemaVersion":2,"manifests":[`+strings.Join(tt.entries, ",")+`]}`), indexType)
		check(t, err)
		if _, err := m.Index(); tt.ok && err != nil || !tt.ok && !oci.Malformed(err) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// R19: a blob is read to its size and not a byte further.
func TestR19BlobIsWhatItsDescriptorSays(t *testing.T) {
	reg, repo, f := published(t, imgtest.RegistryOptions{}, 1000)
	good := v1.Descriptor{MediaType: types.OCILayer, Size: 1000, Digest: digestOf(f.layers[0].body)}
	with := func(size int64) v1.Descriptor { d := good; d.Size = size; return d }
	for name, tt := range map[string]struct {
		desc v1.Descriptor
		edit func(*imgtest.Answer)
		want string
	}{
		"good":           {good, nil, ""},
		"size too small": {with(999), nil, "size of blob"},
		"size too large": {with(1001), nil, "size of blob"},
		"size zero":      {with(0), nil, "size of blob"},
		"negative":       {with(-1), nil, "size: got -1"},
		"one bit":        {good, func(a *imgtest.Answer) { a.Body[500] ^= 1 }, "sha256 of blob"},
		"last bit":       {good, func(a *imgtest.Answer) { a.Body[999] ^= 1 }, "sha256 of blob"},
		"shorter":        {good, func(a *imgtest.Answer) { a.Body = a.Body[:999] }, "size of blob"},
		"longer":         {good, func(a *imgtest.Answer) { a.Body = append(a.Body, 0) }, "size of blob"},
	} {
		t.Run(name, func(t *testing.T) {
			reg.Heal()
			if tt.edit != nil {
				reg.On(imgtest.Fault{Method: "GET", Path: "/blobs/", Edit: tt.edit})
			}
			got, err := readAll(t, repo, tt.desc)
			if tt.want == "" {
				if err != nil || string(got) != string(f.layers[0].body) {
					t.Errorf("got %d bytes, %v", len(got), err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) || int64(len(got)) > max(0, tt.desc.Size) {
				t.Errorf("got %d bytes, %v; want %q", len(got), err, tt.want)
			}
		})
	}
}

func readAll(t *testing.T, repo *oci.Repository, d v1.Descriptor) ([]byte, error) {
	t.Helper()
	rc, err := repo.Blob(t.Context(), d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// R08: a descriptor may name other places; they are never asked.
func TestR08URLsOfADescriptorAreNotFetched(t *testing.T) {
	_, repo, _ := published(t, imgtest.RegistryOptions{}, 10)
	elsewhere := imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.2:0"})
	elsewhere.On(imgtest.Fault{Status: 200, Body: "layer"})
	d := v1.Descriptor{
		MediaType: types.OCIRestrictedLayer, Size: 5, Digest: digestOf([]byte("layer")),
		URLs: []string{"http://" + elsewhere.Host() + "/layer"},
	}
	if _, err := repo.Blob(t.Context(), d); !oci.NotFound(err) {
		t.Errorf("got %v, want it not found", err)
	}
	layer, err := partial.CompressedToLayer(restricted{newLayer(9, 5)})
	check(t, err)
	img, err := mutate.AppendLayers(empty.Image, layer)
	check(t, err)
	_, err = newClient().Publish(t.Context(), oci.Release{Subject: img}, oci.Destination{Repository: repo.String()})
	if err == nil || !strings.Contains(err.Error(), "must not be distributed") {
		t.Errorf("publish: got %v, want such a layer refused", err)
	}
	if log := elsewhere.Requests(); len(log) > 0 {
		t.Errorf("it was asked: %v", log)
	}
}

// restricted is a layer of a type that is not to be pushed.
type restricted struct{ *blobLayer }

func (restricted) MediaType() (types.MediaType, error) { return types.OCIRestrictedLayer, nil }

func TestReadBlobAsksForNothingTooLarge(t *testing.T) {
	reg, repo, f := published(t, imgtest.RegistryOptions{}, 1000)
	d := v1.Descriptor{MediaType: types.OCILayer, Size: 1000, Digest: digestOf(f.layers[0].body)}
	if b, err := repo.ReadBlob(t.Context(), d, 1000); err != nil || len(b) != 1000 {
		t.Errorf("got %d bytes, %v", len(b), err)
	}
	reg.Forget()
	if _, err := repo.ReadBlob(t.Context(), d, 999); !oci.Malformed(err) || len(reg.Requests()) > 0 {
		t.Errorf("got %v after %d requests, want it refused before any", err, len(reg.Requests()))
	}
}

// Four answers: a status means one of them, and "could not be asked" is never
// "is not there".
func TestStatusIsOneOfFourAnswers(t *testing.T) {
	reg, repo, f := published(t, imgtest.RegistryOptions{}, 10)
	kinds := map[string]func(error) bool{"unreachable": oci.Unreachable, "not found": oci.NotFound, "denied": oci.Denied, "unsupported": oci.Unsupported}
	for status, want := range map[int]string{
		404: "not found", 401: "denied", 403: "denied", 405: "unsupported", 415: "unsupported",
		408: "unreachable", 429: "unreachable", 500: "unreachable", 502: "unreachable", 503: "unreachable", 504: "unreachable", 520: "unreachable", 400: "", 409: "",
	} {
		reg.Heal()
		reg.On(imgtest.Fault{Path: "/v2/kubelet/", Status: status, Body: `{"errors":[{"code":"X","message":"because"}]}`})
		for what, err := range map[string]error{
			"manifest": second(repo.Manifest(t.Context(), f.digest(t))),
			"tag":      second(repo.Resolve(t.Context(), "v1")),
			"blob":     second(repo.Blob(t.Context(), v1.Descriptor{MediaType: types.OCILayer, Size: 10, Digest: digestOf(f.layers[0].body)})),
		} {
			for kind, is := range kinds {
				if is(err) != (kind == want) {
					t.Errorf("%s, %d: %s is %v: %v", what, status, kind, is(err), err)
				}
			}
			if !strings.Contains(err.Error(), fmt.Sprint(status)) || !strings.Contains(err.Error(), repo.String()) {
				t.Errorf("%s, %d: got %q, want status and repository in it", what, status, err)
			}
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestDeadRegistryIsOneShortLine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	host := l.Addr().String()
	l.Close()
	repo, err := newClient().Repository(host + "/kubelet")
	check(t, err)
	_, err = repo.Resolve(t.Context(), "v1")
	if !oci.Unreachable(err) || oci.NotFound(err) {
		t.Fatalf("got %v, want it unreachable", err)
	}
	if s := err.Error(); strings.Contains(s, "\n") || strings.Count(s, "refused") != 1 || strings.Contains(s, "/v2/") {
		t.Errorf("got %q, want one line that says refused once", s)
	}
}

// R40: the text of an answer is made safe to print, and holds no credentials.
func TestR40AnswerIsMadeSafeToPrint(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{User: "robot", Password: "hunter2-hunter2"})
	c := newClient()
	c.Keychain = oci.Keychain(authFile(t, reg.Host(), "robot", "hunter2-hunter2"), func(string) string { return "" })
	repo, err := c.Repository(reg.Host() + "/kubelet")
	check(t, err)
	if _, err := repo.Resolve(t.Context(), "v1"); !oci.NotFound(err) {
		t.Fatalf("got %v, want the credentials to work", err)
	}
	var authorization string
	for _, q := range reg.Requests() {
		authorization = q.Authorization
	}
	_, secret, _ := strings.Cut(authorization, " ")
	reg.On(imgtest.Fault{Path: "/manifests/", Status: 400, Body: "\x1b[31mbad\x1b[0m\r\nrequest hunter2-hunter2 " + secret + strings.Repeat(" long", 1000)})
	_, err = repo.Manifest(t.Context(), digestOf(nil))
	if err == nil || secret == "" {
		t.Fatal("no error, or no credentials were sent")
	}
	if s := err.Error(); strings.ContainsAny(s, "\x1b\n\r") || strings.Contains(s, "hunter2") || strings.Contains(s, secret) || len(s) > 600 {
		t.Errorf("got %q", s)
	}
}

func authFile(t *testing.T, host, user, password string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "auth.json")
	body, err := json.Marshal(map[string]any{"auths": map[string]any{host: map[string]string{"username": user, "password": password}}})
	check(t, err)
	check(t, os.WriteFile(path, body, 0o600))
	return path
}

// R06: credentials stay with the host and port that they are for.
func TestR06CredentialsDoNotFollowARedirect(t *testing.T) {
	o := imgtest.RegistryOptions{User: "robot", Password: "hunter2"}
	for _, addr := range []string{"127.0.0.1:0", "127.0.0.2:0"} { // another port, another host
		reg := imgtest.StartRegistry(t, o)
		cdn := imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: addr})
		c, f := newClient(), newFixture(t, 100)
		c.Keychain = oci.Keychain(authFile(t, reg.Host(), "robot", "hunter2"), func(string) string { return "" })
		_, err := c.Publish(t.Context(), f.release(t), oci.Destination{Repository: reg.Host() + "/k"})
		check(t, err)
		_, err = newClient().Publish(t.Context(), f.release(t), oci.Destination{Repository: cdn.Host() + "/k"})
		check(t, err)
		cdn.Forget()
		repo, err := c.Repository(reg.Host() + "/k")
		check(t, err)
		d := v1.Descriptor{MediaType: types.OCILayer, Size: 100, Digest: digestOf(f.layers[0].body)}
		reg.On(imgtest.Fault{Method: "GET", Path: "/blobs/", Status: 307, Header: http.Header{"Location": {"http://" + cdn.Host() + "/v2/k/blobs/" + d.Digest.String()}}})
		if _, err := readAll(t, repo, d); err != nil {
			t.Errorf("redirected to %s: %v", cdn.Host(), err)
		}
		if log := cdn.Requests(); len(log) != 1 || log[0].Authorization != "" {
			t.Errorf("the other place got %v, authorization %q; want one request without", log, log[0].Authorization)
		}
	}
}

func TestRedirectIsFollowedOnlySoFar(t *testing.T) {
	reg, repo, f := published(t, imgtest.RegistryOptions{}, 100)
	d := v1.Descriptor{MediaType: types.OCILayer, Size: 100, Digest: digestOf(f.layers[0].body)}
	self := "http://" + reg.Host() + "/v2/kubelet/blobs/" + d.Digest.String()
	for name, location := range map[string]string{
		"loop": self, "file": "file:///etc/passwd", "not https": "http://example.invalid/blob", "credentials": strings.Replace(self, "//", "//u:p@", 1),
	} {
		reg.Heal()
		reg.Forget()
		reg.On(imgtest.Fault{Method: "GET", Path: "/blobs/", Status: 307, Header: http.Header{"Location": {location}}})
		if _, err := readAll(t, repo, d); err == nil || len(reg.Requests()) > 6 {
			t.Errorf("%s: got %v after %d requests", name, err, len(reg.Requests()))
		}
	}
}

func FuzzParseManifest(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"config":`+emptyDesc+`,"layers":[`+emptyDesc+`]}`), imageType)
	f.Add([]byte(`{"schemaVersion":2,"manifests":[`+emptyDesc+`],"annotations":{"a":"b"}}`), indexType)
	f.Add([]byte(`{"schemaVersion":2,"layers":[],"layers":[]}`), "")
	f.Add([]byte(`{"schemaVersion":2,"manifests":[{"platform":{"os":"linux"}}]}`), "a/b; c=d")
	f.Fuzz(func(t *testing.T, body []byte, contentType string) {
		m, err := oci.ParseManifest(body, contentType)
		if err != nil {
			if !oci.Malformed(err) || strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("got %q", err)
			}
			return
		}
		image, ierr := m.Image()
		index, xerr := m.Index()
		if ierr == nil && xerr == nil {
			t.Error("both an image and an index")
		}
		if ierr == nil {
			for _, d := range image.Layers {
				if d.Size < 0 || len(d.Digest.Hex) != 64 {
					t.Errorf("accepted %+v", d)
				}
			}
		}
		if xerr == nil && len(index.Manifests) > oci.MaxEntries {
			t.Error("too many entries")
		}
	})
}
