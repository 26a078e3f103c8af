package upstream_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/upstream"
)

const member = "kubernetes/node/bin/kubelet"

func TestExtractBringsMembersIntoTheCache(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	b, err := w.client.Fetch(t.Context(), upstream.Pin{Path: tarball}, nil)
	must(t, err)
	paths, err := w.client.ExtractAll(t.Context(), b, member, "kubernetes/node/bin/kubectl", member)
	must(t, err)
	for i, name := range []string{"kubelet", "kubectl", "kubelet"} {
		got, err := os.ReadFile(paths[i])
		must(t, err)
		if !bytes.Equal(got, imgtest.Program(name, "amd64", version, 40_000)) {
			t.Errorf("%s has other bytes", name)
		}
		if filepath.Base(paths[i]) != b.Members["kubernetes/node/bin/"+name] {
			t.Errorf("%s: got %s, want it by its digest %v", name, paths[i], b.Members)
		}
		must(t, upstream.CheckELF(paths[i], "amd64"))
		must(t, upstream.CheckVersion(paths[i], version))
	}

	// The pin now knows the members: the tarball is not even opened.
	pinned, err := w.client.Fetch(t.Context(), b.Pin, both())
	must(t, err)
	pinned.File = filepath.Join(t.TempDir(), "absent")
	again, err := w.client.Extract(t.Context(), pinned, member)
	if err != nil || again != paths[0] {
		t.Errorf("got %s, %v; want %s from the cache", again, err, paths[0])
	}

	// A damaged one is extracted again.
	must(t, os.Chmod(paths[0], 0o644))
	must(t, os.WriteFile(paths[0], []byte("damaged"), 0o644))
	again, err = w.client.Extract(t.Context(), b, member)
	must(t, err)
	must(t, upstream.CheckVersion(again, version))
	if left := temporary(t, w.client); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// temporary lists what extraction has left behind.
func temporary(t *testing.T, c *upstream.Client) []string {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(c.Download.Cache, "part", "tmp-*"))
	must(t, err)
	return names
}

type entry struct {
	name string
	kind byte
	body string
}

// archive puts a tarball into a fresh cache and returns it as a blob.
func archive(t *testing.T, entries ...entry) (*upstream.Client, *upstream.Blob) {
	t.Helper()
	var buf bytes.Buffer
	gz := gzip.NewWriter(&buf)
	tw := tar.NewWriter(gz)
	for _, e := range entries {
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Mode: 0o755, Size: int64(len(e.body))}
		if e.kind != tar.TypeReg {
			h.Size, h.Linkname = 0, e.body
		}
		must(t, tw.WriteHeader(h))
		if h.Size > 0 {
			_, err := tw.Write([]byte(e.body))
			must(t, err)
		}
	}
	must(t, tw.Close())
	must(t, gz.Close())
	return blob(t, buf.Bytes())
}

func blob(t *testing.T, data []byte) (*upstream.Client, *upstream.Blob) {
	t.Helper()
	c := &upstream.Client{Download: &download.Client{Cache: t.TempDir()}}
	f, err := c.Download.Temp(t.Context())
	must(t, err)
	defer f.Close()
	_, err = f.Write(data)
	must(t, err)
	stored, err := c.Download.Add(t.Context(), f.Name())
	must(t, err)
	return c, &upstream.Blob{Pin: upstream.Pin{Path: tarball, SHA256: stored.SHA256}, File: stored.Path}
}

func TestExtractTakesOneRegularFileAndNothingElse(t *testing.T) {
	good := entry{member, tar.TypeReg, "kubelet"}
	for name, tt := range map[string]struct {
		entries []entry
		want    string // "" means it is accepted
	}{
		"the file":             {[]entry{good}, ""},
		"among others":         {[]entry{{"kubernetes/", tar.TypeDir, ""}, {"../evil", tar.TypeReg, "x"}, good}, ""},
		"with a dot before it": {[]entry{{"./" + member, tar.TypeReg, "kubelet"}}, ""},
		"absent":               {[]entry{{"kubelet", tar.TypeReg, "x"}}, "got no " + member},
		"nothing at all":       {nil, "got no " + member},
		"twice":                {[]entry{good, {"other", tar.TypeReg, "x"}, good}, "twice"},
		"twice, spelled apart": {[]entry{good, {"./" + member, tar.TypeReg, "evil"}}, "twice"},
		"symbolic link":        {[]entry{{member, tar.TypeSymlink, "/etc/shadow"}}, "want a regular file"},
		"hard link":            {[]entry{{"a", tar.TypeReg, "x"}, {member, tar.TypeLink, "a"}}, "want a regular file"},
		"directory":            {[]entry{{member + "/", tar.TypeDir, ""}}, "got no " + member},
		"device":               {[]entry{{member, tar.TypeChar, ""}}, "want a regular file"},
		"link after the file":  {[]entry{good, {member, tar.TypeSymlink, "x"}}, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			c, b := archive(t, tt.entries...)
			before := cached(t, c)
			path, err := c.Extract(t.Context(), b, member)
			if tt.want == "" {
				got, rerr := os.ReadFile(path)
				if err != nil || rerr != nil || string(got) != "kubelet" {
					t.Errorf("got %q, %v, %v", got, err, rerr)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
			if after := cached(t, c); !slices.Equal(before, after) || len(temporary(t, c)) > 0 {
				t.Errorf("something was kept: %v", after)
			}
		})
	}
}

// The bytes that are unpacked are the bytes that were proven, not those that
// have the same path a moment later.
func TestExtractHashesWhatItReads(t *testing.T) {
	c, b := archive(t, entry{member, tar.TypeReg, "kubelet"})
	_, other := archive(t, entry{member, tar.TypeReg, "evil"})
	b.File = other.File
	_, err := c.Extract(t.Context(), b, member)
	var m *download.Mismatch
	if !errors.As(err, &m) || m.Want != b.SHA256 || m.Got != other.SHA256 {
		t.Errorf("got %v, want a mismatch of the tarball", err)
	}
	if len(b.Members) > 0 || len(temporary(t, c)) > 0 {
		t.Error("something was kept")
	}
	// Bytes behind the end of the archive count too.
	data, err := os.ReadFile(other.File)
	must(t, err)
	c, b = blob(t, append(data, make([]byte, 100)...))
	if _, err := c.Extract(t.Context(), b, member); err == nil {
		t.Error("accepted what is no gzip after the end")
	}
}

func TestADamagedTarballIsAnError(t *testing.T) {
	_, good := archive(t, entry{member, tar.TypeReg, strings.Repeat("kubelet", 1000)})
	data, err := os.ReadFile(good.File)
	must(t, err)
	flipped := bytes.Clone(data)
	flipped[len(flipped)-5] ^= 1 // in gzip's checksum
	for name, data := range map[string][]byte{"short": data[:len(data)/2], "without its end": data[:len(data)-4], "checksum": flipped, "not gzip": []byte("plain")} {
		c, b := blob(t, data)
		if _, err := c.Extract(t.Context(), b, member); err == nil {
			t.Errorf("%s: accepted", name)
		}
		if left := temporary(t, c); len(left) > 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

func TestAMemberOtherThanPinnedIsAMismatch(t *testing.T) {
	c, b := archive(t, entry{member, tar.TypeReg, "kubelet"})
	b.Members = map[string]string{member: strings.Repeat("ab", 32)}
	_, err := c.Extract(t.Context(), b, member)
	var m *download.Mismatch
	if !errors.As(err, &m) || m.Object != member {
		t.Errorf("got %v, want a mismatch of the member", err)
	}
}

func TestExtractCanBeCancelled(t *testing.T) {
	c, b := archive(t, entry{member, tar.TypeReg, "kubelet"})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Extract(ctx, b, member); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
