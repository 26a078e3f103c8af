package oci_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// R12, R23: what comes after a cut is not what was asked for.
func TestR23WrongRestIsNotTaken(t *testing.T) {
	const size = 1 << 20
	for name, tt := range map[string]struct {
		edit func(*imgtest.Answer)
		want string
	}{
		"the rest":  {func(*imgtest.Answer) {}, ""},
		"the whole": {func(a *imgtest.Answer) { a.Status = 0 }, ""},
		"another range": {func(a *imgtest.Answer) {
			a.Header.Set("Content-Range", fmt.Sprintf("bytes 1-%d/%d", size-1, size))
		}, "Content-Range: got"},
		"another size":        {func(a *imgtest.Answer) { a.Header.Set("Content-Range", "bytes 1000-1999/2000") }, "Content-Range: got"},
		"no range":            {func(a *imgtest.Answer) { a.Header.Del("Content-Range") }, "Content-Range: got"},
		"another rest":        {func(a *imgtest.Answer) { a.Body[7] ^= 1 }, "sha256 of blob"},
		"a shorter rest":      {func(a *imgtest.Answer) { a.Body = a.Body[:9] }, "size of blob"},
		"it is gone":          {func(a *imgtest.Answer) { a.Status = 404 }, "404 Not Found"},
		"out of range":        {func(a *imgtest.Answer) { a.Status = 416 }, "416"},
		"a whole of others":   {func(a *imgtest.Answer) { a.Status = -1 }, "sha256 of blob"},
		"a whole that is cut": {func(a *imgtest.Answer) { a.Status = -2 }, "fewer bytes than before"},
	} {
		t.Run(name, func(t *testing.T) {
			reg, repo, f := published(t, imgtest.RegistryOptions{}, size)
			body := f.layers[0].body
			reg.On(imgtest.Fault{Method: "GET", Path: "/blobs/", Times: 1, Cut: 1000})
			reg.On(imgtest.Fault{Method: "GET", Path: "/blobs/", Edit: func(a *imgtest.Answer) {
				if tt.edit(a); a.Status > 0 {
					return
				}
				whole := append([]byte(nil), body...)
				switch a.Status {
				case -1:
					whole[5000] ^= 1
				case -2:
					whole = whole[:500]
				}
				a.Status, a.Body, a.Header = 200, whole, http.Header{}
			}})
			got, err := readAll(t, repo, v1.Descriptor{MediaType: types.OCILayer, Size: size, Digest: digestOf(body)})
			if tt.want == "" {
				if err != nil || string(got) != string(body) {
					t.Errorf("got %d bytes, %v; want it whole", len(got), err)
				}
			} else if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), reg.Host()) {
				t.Errorf("got %d bytes, %v; want %q at %s", len(got), err, tt.want, reg.Host())
			}
		})
	}
}

// soon is a client that takes a tenth of a second without a byte for a stall.
func soon() *oci.Client {
	c := newClient()
	c.Timeouts.Idle = 100 * time.Millisecond
	return c
}

// R23: a download on which nothing moves is cut and goes on.
func TestR23StalledDownloadGoesOn(t *testing.T) {
	reg, _, f := published(t, imgtest.RegistryOptions{}, 1<<20)
	repo, err := soon().Repository(reg.Host() + "/kubelet")
	check(t, err)
	if _, err := repo.Resolve(t.Context(), "v1"); err != nil { // it has answered: it is no black hole
		t.Fatal(err)
	}
	d := v1.Descriptor{MediaType: types.OCILayer, Size: 1 << 20, Digest: digestOf(f.layers[0].body)}
	reg.On(imgtest.Fault{Method: "GET", Path: "/blobs/", Times: 1, Cut: 300 << 10, Hang: true})
	reg.On(imgtest.Fault{Method: "GET", Path: "/blobs/", Times: 1, Hang: true})
	got, err := readAll(t, repo, d)
	if err != nil || string(got) != string(f.layers[0].body) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	reg.On(imgtest.Fault{Method: "GET", Path: "/blobs/", Hang: true})
	if _, err := readAll(t, repo, d); !oci.Unreachable(err) || !strings.Contains(err.Error(), "no byte for 100ms") {
		t.Errorf("got %v, want it unreachable, with the reason", err)
	}
}

// resumable publishes one image of 4 MiB layers while the uploads of the first
// blob break, and returns the writes about blobs that followed.
func resumable(t *testing.T, c *oci.Client, reg *imgtest.Registry, faults ...imgtest.Fault) []imgtest.Request {
	t.Helper()
	for _, f := range faults {
		reg.On(f)
	}
	f := newFixture(t, 4<<20)
	c.Jobs = 1
	name := reg.Host() + "/k"
	_, err := c.Publish(t.Context(), oci.Release{Subject: f.index, Tags: []string{"v1"}}, oci.Destination{Repository: name})
	check(t, err)
	reg.Heal()
	for _, l := range f.layers {
		got, err := readAll(t, repository(t, name), v1.Descriptor{MediaType: types.OCILayer, Size: 4 << 20, Digest: digestOf(l.body)})
		if err != nil || string(got) != string(l.body) {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	}
	return reg.Writes()
}

func count(log []imgtest.Request, method, part string) (n int) {
	for _, q := range log {
		if q.Method == method && strings.Contains(q.Path, part) {
			n++
		}
	}
	return n
}

const bigPut = "/blobs/uploads/"

// firstBig lets the configurations through, which are small, and is for what comes after.
func firstBig(f imgtest.Fault) imgtest.Fault {
	f.Method, f.Path, f.Times = "PUT", bigPut, 1
	f.If = func(q imgtest.Request) bool { return q.Size > 1<<20 }
	return f
}

// R23, R26: an upload that breaks goes on where it was: the session is asked,
// and gets the rest.
func TestR26UploadGoesOnWhereItBroke(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	log := resumable(t, newClient(), reg, firstBig(imgtest.Fault{Take: 3 << 20}))
	if n := count(log, "PATCH", bigPut); n != 1 {
		t.Fatalf("got %d PATCH requests, want one: %v", n, log)
	}
	for _, q := range log {
		if q.Method == "PATCH" && (q.Range != fmt.Sprintf("%d-%d", 3<<20, 4<<20-1) || q.Size != 1<<20) {
			t.Errorf("got Content-Range %s with %d bytes, want the last MiB", q.Range, q.Size)
		}
	}
	if n := count(log, "POST", bigPut); n != 5 { // three layers, two configurations
		t.Errorf("got %d sessions, want one for each blob", n)
	}
}

// The same for one on which nothing moves any more.
func TestR23StalledUploadGoesOn(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	log := resumable(t, soon(), reg, firstBig(imgtest.Fault{Take: 1 << 20, Hang: true}))
	if n := count(log, "PATCH", bigPut); n < 1 {
		t.Errorf("got no PATCH request: %v", log)
	}
}

// R26: a session that is gone, or is elsewhere than the registry says, is begun
// anew; a blob that turns out to be there is not sent again.
func TestR26SessionThatIsGoneIsBegunAnew(t *testing.T) {
	unknown := `{"errors":[{"code":"BLOB_UPLOAD_UNKNOWN","message":"blob upload unknown to registry"}]}`
	for name, tt := range map[string]struct {
		faults             []imgtest.Fault
		posts, puts, patch int
	}{
		"404 on PUT":             {[]imgtest.Fault{firstBig(imgtest.Fault{Status: 404, Body: unknown})}, 6, 6, 0},
		"400 on PUT":             {[]imgtest.Fault{firstBig(imgtest.Fault{Status: 400, Body: unknown})}, 6, 6, 0},
		"404 when asked":         {[]imgtest.Fault{firstBig(imgtest.Fault{Take: 1 << 20}), {Method: "GET", Path: bigPut, Status: 404, Body: unknown}}, 6, 6, 0},
		"nonsense when asked":    {[]imgtest.Fault{firstBig(imgtest.Fault{Take: 1 << 20}), {Method: "GET", Path: bigPut, Status: 204, Header: http.Header{"Range": {"0-x"}}}}, 6, 6, 0},
		"416 on PATCH":           {[]imgtest.Fault{firstBig(imgtest.Fault{Take: 1 << 20}), {Method: "PATCH", Times: 1, Status: 416}}, 6, 6, 1},
		"416 with another Range": {[]imgtest.Fault{firstBig(imgtest.Fault{Take: 1 << 20}), {Method: "PATCH", Times: 1, Status: 416, Header: http.Header{"Range": {"0-99"}}}}, 5, 6, 2},
		"404 on PATCH":           {[]imgtest.Fault{firstBig(imgtest.Fault{Take: 1 << 20}), {Method: "PATCH", Times: 1, Status: 404, Body: unknown}}, 6, 6, 1},
		"done, but not told":     {[]imgtest.Fault{firstBig(imgtest.Fault{Lose: true})}, 5, 5, 0},
	} {
		t.Run(name, func(t *testing.T) {
			reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
			log := resumable(t, newClient(), reg, tt.faults...)
			posts, puts, patches := count(log, "POST", bigPut), count(log, "PUT", bigPut), count(log, "PATCH", bigPut)
			if posts != tt.posts || puts != tt.puts || patches != tt.patch {
				t.Errorf("got %d POST, %d PUT, %d PATCH; want %d, %d, %d: %v", posts, puts, patches, tt.posts, tt.puts, tt.patch, log)
			}
		})
	}
}

// Faults below HTTP: a connection that is cut or reset in the middle of
// anything is made again, and one flipped bit is never taken for content.
func TestR23FaultsOfTheConnection(t *testing.T) {
	reg, _, f := published(t, imgtest.RegistryOptions{}, 1<<20)
	d := v1.Descriptor{MediaType: types.OCILayer, Size: 1 << 20, Digest: digestOf(f.layers[0].body)}
	for name, tt := range map[string]struct {
		trouble imgtest.Trouble
		ok      bool
	}{
		"none":              {imgtest.Trouble{Skip: 99}, true},
		"cut in the header": {imgtest.Trouble{Cut: 20, Times: 1}, true},
		"cut in the body":   {imgtest.Trouble{Cut: 500_000, Times: 1}, true},
		"reset":             {imgtest.Trouble{Cut: 500_000, Reset: true, Times: 1}, true},
		"cut going up":      {imgtest.Trouble{Up: true, Cut: 30, Times: 1}, true},
		"always cut":        {imgtest.Trouble{Cut: 500}, false},
		"a flipped bit":     {imgtest.Trouble{Flip: 500_000, Times: 1}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := imgtest.StartProxy(t, "127.0.0.1:0", reg.Host())
			p.On(tt.trouble)
			got, err := readAll(t, repository(t, p.Host()+"/kubelet"), d)
			if tt.ok && (err != nil || string(got) != string(f.layers[0].body)) || !tt.ok && err == nil {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
}
