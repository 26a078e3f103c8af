//go:build e2e

package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/imgctl/imgctl/internal/peers"
)

// shown is what `imgctl tree --json` says of a manifest.
type shown struct {
	Platform string
	Signed   []shownSignature
	Children []shown
}

type shownSignature struct {
	Layout, About string
	SeenBy        map[string]string
}

// each visits the signatures and SBOMs, each with the row of the table that it
// belongs to. The table has none for the others.
func (n shown) each(row string, visit func(row string, v shownSignature)) {
	if n.Platform != "" {
		row = rowChild
	}
	for _, v := range n.Signed {
		switch v.About {
		case typeSignature:
			visit(row, v)
		case typeSPDX:
			visit(rowSBOM, v)
		}
	}
	for _, c := range n.Children {
		c.each(row, visit)
	}
}

// testTree compares what `imgctl tree` says with the table. Its column podman is
// about policy.json, by which skopeo goes, too.
func (r *registries) testTree(t *testing.T) {
	table := documented(t)
	for _, s := range r.all {
		for top, want := range map[string]int{rowIndex: 10, rowBundle: 2} { // of each signature and SBOM two layouts
			var tree struct{ Tree shown }
			decode(t, output(t, r.imgctl(t, "tree", "--json", r.ref(s, inBoth, top))), &tree)
			visited := 0
			tree.Tree.each(top, func(row string, v shownSignature) {
				visited++
				for program, others := range map[string]string{"cosign 2": "cosign 2", "cosign 3": "cosign 3", "podman": "skopeo"} {
					does := slices.Concat(cell(t, table, program, row), cell(t, table, others, row))
					if got, want := v.SeenBy[program] == "yes", slices.Contains(does, v.Layout); got != want {
						t.Errorf("%s, %s signature of %s: imgctl tree says that %s sees it: %v; the table: %v", s.name, v.Layout, row, program, got, want)
					}
				}
			})
			if visited != want {
				t.Errorf("%s, %s: imgctl tree shows %d signatures and SBOMs, want %d", s.name, top, visited, want)
			}
		}
	}
}

// cell is what a program does with a row, by the table.
func cell(t *testing.T, table, column, row string) []string {
	t.Helper()
	for line := range strings.Lines(table) {
		if rest, ok := strings.CutPrefix(line, "| "+row+" | "); ok {
			return strings.Split(strings.TrimSuffix(strings.Split(rest, " | ")[slices.Index(programs, column)], " |\n"), ", ")
		}
	}
	t.Fatalf("no row %s", row)
	return nil
}

// testDoctor compares what `imgctl doctor` says with what is known of the registries.
func (r *registries) testDoctor(t *testing.T) {
	for i, want := range []struct{ authentication, tls, referrers string }{
		{"Basic as robot", "TLS 1.3, ", "no"}, {"Bearer as robot", "TLS 1.3, ", "no"}, {"none", "none", "yes"},
	} {
		s := r.all[i]
		scratch := s.addr + "/doctor/scratch"
		for _, write := range []bool{false, true} {
			args := []string{"doctor", "--json", scratch}
			if write {
				args = append(args, "--write")
			}
			var found struct {
				Repositories []struct {
					Authentication, TLS, Error string
					ClockSkewNanoseconds       int64
					RateLimit                  map[string]string
					Findings                   []struct{ What, Answer, Detail string }
					Left                       []string
				}
			}
			before := len(writes(s.requests()))
			decode(t, output(t, r.imgctl(t, args...)), &found)
			e := found.Repositories[0]
			if e.Authentication != want.authentication || !strings.HasPrefix(e.TLS, want.tls) || e.Error != "" || len(e.RateLimit)+len(e.Left) > 0 {
				t.Errorf("%s: got %+v", s.name, e)
			}
			if wrote := len(writes(s.requests())) > before; wrote != write {
				t.Errorf("%s, --write %v: something was written: %v", s.name, write, wrote)
			}
			answers := map[string]string{"clock": "yes", "mount": "yes", "write": "yes", "artifacts": "yes", "referrers": want.referrers,
				"indexes": "yes", "Docker manifests": "yes", "immutable tags": "no", "delete": "yes"}
			for _, f := range e.Findings {
				known := answers[f.What]
				if !write && f.What != "clock" {
					known = "unknown"
				}
				if delete(answers, f.What); f.Answer != known {
					t.Errorf("%s, --write %v: got %+v, want %s", s.name, write, f, known)
				}
			}
			if delete(answers, "write"); len(answers) > 0 {
				t.Errorf("%s, --write %v: nothing about %v", s.name, write, answers)
			}
		}
		r.wantEmpty(t, s, scratch)
	}
}

// wantEmpty checks, as anybody can, that what doctor put is gone.
func (r *registries) wantEmpty(t *testing.T, s *site, repository string) {
	t.Helper()
	args := []string{"ls", repository}
	if s.plain {
		args = append(args, "--insecure")
	}
	out, err := r.command(t, program(t, peers.Crane()), args...).Output()
	if exit := (*exec.ExitError)(nil); err != nil && (!errors.As(err, &exit) || !strings.Contains(string(exit.Stderr), "NAME_UNKNOWN")) || len(out) > 0 {
		t.Errorf("%s: got %q, %v; want no tags", repository, out, err)
	}
}

// writes are the requests that may have changed something.
func writes(requests []string) (list []string) {
	for _, q := range requests {
		if !strings.HasPrefix(q, "GET ") && !strings.HasPrefix(q, "HEAD ") {
			list = append(list, q)
		}
	}
	return list
}

// testQuirks checks what docs/publishing.md says of these registries.
func (r *registries) testQuirks(t *testing.T) {
	for i, s := range r.all {
		api, ignored := http.StatusNotFound, http.StatusCreated
		if i == 2 {
			api = http.StatusOK
		}
		digest := r.released[inBoth].Image().Digest
		if got, _ := r.ask(t, s, "GET", "referrers/"+digest, nil, nil); got.StatusCode != api {
			t.Errorf("%s: referrers: got %s, want %d", s.name, got.Status, api)
		}
		manifest, body := r.ask(t, s, "GET", "manifests/"+digest, nil, nil)
		if etag := manifest.Header.Get("ETag"); (etag != "") != (i < 2) {
			t.Errorf("%s: ETag: got %q", s.name, etag)
		}
		header := http.Header{"Content-Type": {"application/vnd.oci.image.index.v1+json"}, "If-Match": {`"sha256:of-something-else"`}}
		if got, _ := r.ask(t, s, "PUT", "manifests/if-match", header, body); got.StatusCode != ignored {
			t.Errorf("%s: a PUT with a wrong If-Match: got %s, want it ignored", s.name, got.Status)
		}
		// A blob that another repository has is mounted from there.
		var pushed struct {
			Destinations []struct{ Uploaded, Mounted int }
		}
		decode(t, output(t, r.imgctl(t, "push", "--json", r.ref(s, inBoth, rowChild), s.addr+"/mounted/kubelet")), &pushed)
		if d := pushed.Destinations[0]; d.Mounted == 0 || d.Uploaded != 1 {
			t.Errorf("%s: got %+v, want all blobs mounted, and a manifest", s.name, d)
		}
	}
}

// client is one that may read and write the image.
func (r *registries) client(t *testing.T, s *site) http.RoundTripper {
	t.Helper()
	repo, err := name.NewRepository(s.image(inBoth), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(readFile(t, r.ca))
	network := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	t.Cleanup(network.CloseIdleConnections)
	rt, err := transport.NewWithContext(t.Context(), repo.Registry, &authn.Basic{Username: r.user, Password: r.password}, network, []string{repo.Scope(transport.PushScope)})
	if err != nil {
		t.Fatal(err)
	}
	return rt
}

// ask makes a request about the image, and returns the answer and its body.
func (r *registries) ask(t *testing.T, s *site, method, what string, header http.Header, body []byte) (*http.Response, []byte) {
	t.Helper()
	scheme := "https"
	if s.plain {
		scheme = "http"
	}
	host, path, _ := strings.Cut(s.image(inBoth), "/")
	req, err := http.NewRequestWithContext(t.Context(), method, scheme+"://"+host+"/v2/"+path+"/"+what, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = http.Header{"Accept": {"application/vnd.oci.image.index.v1+json"}}
	maps.Copy(req.Header, header)
	resp, err := r.client(t, s).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, answer
}

// testNothingToDo counts what a release asks that finds everything there.
func (r *registries) testNothingToDo(t *testing.T) {
	before, tokens := make([]int, len(r.all)), len(r.tokens.Requests())
	for i, s := range r.all {
		before[i] = len(s.requests())
	}
	output(t, r.imgctl(t, "release"))
	for i, s := range r.all {
		asked := s.requests()[before[i]:]
		t.Logf("%s: %d requests:\n%s", s.name, len(asked), strings.Join(asked, "\n"))
		if wrote := writes(asked); len(wrote) > 0 {
			t.Errorf("%s: got %q, want nothing written", s.name, wrote)
		}
		if len(asked) == 0 {
			t.Errorf("%s: it was not asked", s.name)
		}
	}
	t.Logf("%d tokens were fetched", len(r.tokens.Requests())-tokens)
}

// testStranger has docker-registry name its token server to an imgctl that was
// not told of it.
func (r *registries) testStranger(t *testing.T) {
	s := r.all[1]
	cmd := shared.Command(t.Context(), "tree", r.ref(s, inBoth, rowIndex))
	cmd.Env = append(cmd.Env, r.env...)
	if out := refused(t, cmd); cmd.ProcessState.ExitCode() != 4 || !strings.Contains(out, "--token-server "+s.addr+"="+r.tokenHost()) {
		t.Errorf("got code %d and %s, want 4 and the flag that allows it", cmd.ProcessState.ExitCode(), out)
	}
	log := r.tokens.Requests()
	if last := log[len(log)-1]; last.Authorization != "" {
		t.Errorf("the token server was sent a password: %s", last)
	}
}
