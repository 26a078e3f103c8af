package oci_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/oci"
)

// What a process of its own does is in its environment.
const (
	processVariable = "IMGCTL_TEST_PROCESS" // release, attach or huge
	toVariable      = "IMGCTL_TEST_TO"      // repositories, separated by commas
	nameVariable    = "IMGCTL_TEST_NAME"    // who attaches
)

// process prepares this test binary to run as another program.
func process(what, name string, to ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], "-test.run=^TestProcess$", "-test.v")
	cmd.Env = append(os.Environ(), processVariable+"="+what, toVariable+"="+strings.Join(to, ","), nameVariable+"="+name)
	return cmd
}

// TestProcess is what those programs run. It waits for real.
func TestProcess(t *testing.T) {
	what := os.Getenv(processVariable)
	if what == "" {
		t.Skip("other tests start it")
	}
	var to []oci.Destination
	for _, name := range strings.Split(os.Getenv(toVariable), ",") {
		to = append(to, oci.Destination{Repository: name})
	}
	c := &oci.Client{}
	switch what {
	case "release":
		_, err := c.Publish(t.Context(), newFixture(t, 100).release(t, "v1"), to...)
		check(t, err)
	case "attach":
		f, who := newFixture(t, 100), os.Getenv(nameVariable)
		for i := range 3 {
			r := oci.Release{Subject: f.index, Attachments: []oci.Attachment{{Subject: f.digest(t), Image: attachment(t, f.parts(t)[0], signatureType, fmt.Sprint(who, i))}}}
			r.Signatures = func(_ context.Context, repository string) (map[string]v1.Image, error) {
				return map[string]v1.Image{"sha256-" + f.digest(t).Hex + ".sig": legacySignature(t, repository, f.digest(t), who)}, nil
			}
			_, err := c.Publish(t.Context(), r, to...)
			check(t, err)
		}
	case "huge":
		img, err := mutate.AppendLayers(mutate.MediaType(empty.Image, types.OCIManifestSchema1), hugeLayer{})
		check(t, err)
		_, err = c.Publish(t.Context(), oci.Release{Subject: img, Tags: []string{"v1"}}, to...)
		check(t, err)
		fmt.Println("VmHWM", peakMemory(t))
	}
}

// M25: processes that list referrers and sign at the same time lose nothing,
// on a registry that knows no way to change a tag in one step.
func TestM25ProcessesAtTheSameTimeLoseNothing(t *testing.T) {
	registries(t, func(t *testing.T, o imgtest.RegistryOptions) {
		const writers = 4
		reg := imgtest.StartRegistry(t, o)
		name, f := reg.Host()+"/k", newFixture(t, 100)
		_, err := newClient().Publish(t.Context(), oci.Release{Subject: f.index}, oci.Destination{Repository: name})
		check(t, err)
		var g sync.WaitGroup
		for i := range writers {
			g.Go(func() {
				if out, err := process("attach", fmt.Sprint("writer", i), name).CombinedOutput(); err != nil {
					t.Errorf("writer %d: %v\n%s", i, err, out)
				}
			})
		}
		g.Wait()
		repo := repository(t, name)
		list, err := repo.Referrers(t.Context(), f.digest(t))
		if err != nil || len(list) != 3*writers {
			t.Errorf("got %d referrers, %v; want %d", len(list), err, 3*writers)
		}
		for _, d := range list {
			if d.ArtifactType != signatureType || d.Annotations["kind"] != signatureType {
				t.Errorf("got %+v, want type and annotations kept", d)
			}
		}
		at, err := repo.Resolve(t.Context(), "sha256-"+f.digest(t).Hex+".sig")
		check(t, err)
		m, err := repo.Manifest(t.Context(), at.Digest)
		check(t, err)
		im, err := m.Image()
		check(t, err)
		if len(im.Layers) != writers {
			t.Errorf("got %d signatures, want %d", len(im.Layers), writers)
		}
	})
}

// M25: a registry that honours If-Match refuses a write that would lose another's.
func TestM25ETagIsSentAndARefusalTriedAgain(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{NoReferrers: true})
	f, name := newFixture(t, 100), reg.Host()+"/k"
	r := f.release(t)
	mine := r.Attachments
	r.Attachments, r.Signatures = mine[:1], nil
	_, err := newClient().Publish(t.Context(), r, oci.Destination{Repository: name})
	check(t, err)
	tag := "/manifests/sha256-" + f.digest(t).Hex + "$"
	reg.On(imgtest.Fault{Method: "GET", Path: tag, Edit: func(a *imgtest.Answer) { a.Header.Set("ETag", `"one"`) }})
	reg.On(imgtest.Fault{Method: "PUT", Path: tag, Times: 2, Status: http.StatusPreconditionFailed})
	r.Attachments = mine[:2]
	_, err = newClient().Publish(t.Context(), r, oci.Destination{Repository: name})
	check(t, err)
	reg.Heal()
	list, err := repository(t, name).Referrers(t.Context(), f.digest(t))
	if err != nil || len(list) != 2 {
		t.Errorf("got %d referrers, %v; want both", len(list), err)
	}
}

// M16: a process that publishes to two registries is killed with SIGKILL at a
// random request, many times (IMGCTL_KILLS): no tag is there without all that
// belongs to it, and the next run finishes.
func TestM16KilledProcessLeavesNothingTorn(t *testing.T) {
	kills := 4
	if s := os.Getenv("IMGCTL_KILLS"); s != "" {
		var err error
		kills, err = strconv.Atoi(s)
		check(t, err)
	}
	regs := []*imgtest.Registry{imgtest.StartRegistry(t, imgtest.RegistryOptions{}), imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.2:0", NoReferrers: true})}
	f := newFixture(t, 100)
	names := func(i int) (all []string, to []oci.Destination) {
		for _, r := range regs {
			all = append(all, fmt.Sprintf("%s/kill-%d", r.Host(), i))
			to = append(to, oci.Destination{Repository: all[len(all)-1]})
		}
		return all, to
	}
	all, _ := names(-1)
	if out, err := process("release", "", all...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	random, died, early := rand.New(rand.NewPCG(4, uint64(kills))), 0, 0
	total := []int{len(regs[0].Requests()), len(regs[1].Requests())}
	for i := range kills {
		at := i % len(regs)
		for _, r := range regs {
			r.Forget()
		}
		all, to := names(i)
		cmd := process("release", "", all...)
		skip := random.IntN(total[at])
		if i%4 > 1 { // while the tags move, which is short
			skip = total[at] - 1 - random.IntN(4)
		}
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		started := make(chan struct{})
		regs[at].On(imgtest.Fault{Skip: skip, Times: 1, Do: func() { <-started; cmd.Process.Kill() }, Lose: true})
		check(t, cmd.Start())
		close(started)
		if err := cmd.Wait(); err != nil && cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("kill %d: it ended by itself: %v\n%s", i, err, out.String())
		} else if err != nil {
			died++
		}
		for j, r := range regs {
			r.Heal()
			tagComesLast(t, r.Requests(), f)
			if _, err := repository(t, all[j]).Resolve(t.Context(), "v1"); err == nil {
				complete(t, newClient(), all[j], f, "v1")
			} else {
				early++
			}
		}
		_, err := newClient().Publish(t.Context(), f.release(t, "v1"), to...)
		check(t, err)
		for j, r := range regs {
			complete(t, newClient(), all[j], f, "v1")
			tagComesLast(t, r.Requests(), f)
		}
	}
	t.Logf("%d kills, %d before the end; the tag was absent %d times of %d", kills, died, early, 2*kills)
	if died == 0 {
		t.Error("no process was killed before it ended")
	}
}

// hugeLayer is 1 GiB of zeros.
type hugeLayer struct{}

const hugeSize = 1 << 30

func (hugeLayer) Digest() (v1.Hash, error) {
	return v1.NewHash("sha256:49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14")
}
func (l hugeLayer) DiffID() (v1.Hash, error)             { return l.Digest() }
func (hugeLayer) Size() (int64, error)                   { return hugeSize, nil }
func (hugeLayer) MediaType() (types.MediaType, error)    { return types.OCIUncompressedLayer, nil }
func (l hugeLayer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }
func (hugeLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.LimitReader(zeros{}, hugeSize)), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// peakMemory is the most memory that this process ever had, in KiB.
func peakMemory(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile("/proc/self/status")
	check(t, err)
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			n, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")))
			check(t, err)
			return n
		}
	}
	t.Fatal("/proc/self/status has no VmHWM")
	return 0
}

// drainRegistry takes everything, keeps the manifests and only counts blobs.
type drainRegistry struct {
	mu        sync.Mutex
	manifests map[string][]byte
	bytes     int64
}

func (d *drainRegistry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	ref := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	switch {
	case r.Method == http.MethodPost:
		w.Header().Set("Location", "/v2/k/blobs/uploads/1")
		w.WriteHeader(http.StatusAccepted)
	case r.Method == http.MethodPut && strings.Contains(r.URL.Path, "/blobs/"):
		n, _ := io.Copy(io.Discard, r.Body)
		d.mu.Lock()
		d.bytes += n
		d.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
	case r.Method == http.MethodPut:
		body, _ := io.ReadAll(r.Body)
		d.mu.Lock()
		d.manifests[ref], d.manifests[digestOf(body).String()] = body, body
		d.mu.Unlock()
		w.WriteHeader(http.StatusCreated)
	case strings.Contains(r.URL.Path, "/manifests/"):
		d.mu.Lock()
		body, ok := d.manifests[ref]
		d.mu.Unlock()
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", imageType)
		w.Header().Set("Docker-Content-Digest", digestOf(body).String())
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		w.Write(body)
	case r.URL.Path == "/v2/":
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// A gigabyte goes to two registries in 64 MiB of memory.
func TestMemoryDoesNotGrowWithTheImage(t *testing.T) {
	if testing.Short() {
		t.Skip("it sends 2 GiB over loopback")
	}
	var to []string
	var regs []*drainRegistry
	for range 2 {
		reg := &drainRegistry{manifests: make(map[string][]byte)}
		server := httptest.NewServer(reg)
		t.Cleanup(server.Close)
		regs, to = append(regs, reg), append(to, strings.TrimPrefix(server.URL, "http://")+"/k")
	}
	out, err := process("huge", "", to...).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	_, rest, _ := strings.Cut(string(out), "VmHWM ")
	peak, err := strconv.Atoi(strings.Fields(rest)[0])
	check(t, err)
	t.Logf("peak %.1f MiB", float64(peak)/1024)
	if peak > 64<<10 {
		t.Errorf("got a peak of %d KiB, want at most 64 MiB", peak)
	}
	for _, reg := range regs {
		if reg.bytes < hugeSize {
			t.Errorf("a registry got %d bytes, want all", reg.bytes)
		}
	}
}
