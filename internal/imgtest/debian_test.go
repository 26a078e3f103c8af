package imgtest_test

import (
	"bytes"
	"debug/elf"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"

	"github.com/imgctl/imgctl/internal/imgtest"
)

func debGet(t *testing.T, url string) (int, []byte) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, body
}

func TestDebIsAlwaysTheSameBytes(t *testing.T) {
	d := imgtest.Deb{Name: "tool", Members: map[string]string{"postinst": "a", "prerm": "b", "conffiles": "/etc/x\n"},
		Files: []imgtest.DebFile{{Path: "etc/x", Body: "x"}, {Path: "usr/bin/tool", Body: "y", Mode: 0o755}}}
	first := d.Bytes(t)
	for range 5 {
		if !bytes.Equal(first, d.Bytes(t)) {
			t.Fatal("two packages of one description differ")
		}
	}
}

func TestDebianServesWhatItsReleaseLists(t *testing.T) {
	d := imgtest.SmallDebian(t)
	status, inRelease := debGet(t, d.URL+"/dists/trixie/InRelease")
	block, rest := clearsign.Decode(inRelease)
	if status != http.StatusOK || block == nil || len(bytes.TrimSpace(rest)) > 0 {
		t.Fatalf("got %d %q", status, inRelease)
	}
	keys, err := openpgp.ReadKeyRing(bytes.NewReader(d.Keyring))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := block.VerifySignature(keys, nil); err != nil {
		t.Error(err)
	}
	_, sums, _ := strings.Cut(string(block.Plaintext), "SHA256:\n")
	for line := range strings.Lines(sums) {
		w := strings.Fields(line)
		_, plain := debGet(t, d.URL+"/dists/trixie/"+w[2])
		_, byHash := debGet(t, d.URL+"/dists/trixie/"+w[2][:strings.LastIndex(w[2], "/")]+"/by-hash/SHA256/"+w[0])
		if len(plain) == 0 || !bytes.Equal(plain, byHash) {
			t.Errorf("%s: %d bytes, by hash %d", w[2], len(plain), len(byHash))
		}
	}
}

func TestDebianCanBeSpoiled(t *testing.T) {
	d := imgtest.SmallDebian(t)
	path := d.Paths("iptables_1.8.11-2_amd64")[0]
	_, good := debGet(t, d.URL+"/"+path)
	d.Tamper(t, path)
	if _, bad := debGet(t, d.URL+"/"+path); bytes.Equal(good, bad) || len(good) != len(bad) {
		t.Error("Tamper changed nothing, or the size")
	}
	d.Drop(t, path)
	if status, _ := debGet(t, d.URL+"/"+path); status != http.StatusNotFound {
		t.Errorf("after Drop: got %d", status)
	}
	d.Publish(t)
	if _, again := debGet(t, d.URL+"/"+path); !bytes.Equal(good, again) {
		t.Error("Publish did not bring it back")
	}
	if got := d.Requests(); len(got) != 4 || slices.ContainsFunc(got, func(p string) bool { return p != path }) {
		t.Errorf("requests: %v", got)
	}
	d.ValidUntil = d.Date.Add(time.Hour)
	d.Publish(t)
	if _, inRelease := debGet(t, d.URL+"/dists/stable/InRelease"); !bytes.Contains(inRelease, []byte("\nValid-Until: ")) {
		t.Error("no Valid-Until")
	}
}

func TestSharedObjectIsOne(t *testing.T) {
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		f, err := elf.NewFile(strings.NewReader(imgtest.SharedObject(arch, "libx.so.1")))
		if err != nil {
			t.Fatal(err)
		}
		names, err := f.DynString(elf.DT_SONAME)
		if err != nil || f.Machine != machine || f.Type != elf.ET_DYN || !slices.Equal(names, []string{"libx.so.1"}) {
			t.Errorf("%s: got %s %s %v, %v", arch, f.Machine, f.Type, names, err)
		}
	}
}
