package imgtest

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ProtonMail/go-crypto/openpgp"
	"github.com/ProtonMail/go-crypto/openpgp/clearsign"
	"github.com/ProtonMail/go-crypto/openpgp/packet"
	"github.com/ulikunitz/xz"
)

// Debian is a Debian archive on loopback, made and signed for one test, that a
// test can spoil. Set what is to be different, call [Debian.Publish], and use URL
// and Keyring. Methods may be called while clients read.
type Debian struct {
	URL     string // what "dists" and "pool" are below: http://127.0.0.1:…/debian
	Keyring []byte // the certificate of the archive's key, binary

	DebianSuite
	Others []*DebianSuite // further suites of the archive

	name string // as in the URL
	key  *DebianKey

	mu       sync.Mutex
	files    map[string][]byte // by path below URL
	requests []string
}

// DebianSuite is what one suite of a [Debian] has.
type DebianSuite struct {
	Suite      string    // default "stable"
	Codename   string    // default "trixie"
	Date       time.Time // default: when the archive was started
	ValidUntil time.Time // zero: the release has none
	NoByHash   bool      // do not offer files by their digest
	Arches     []string  // default amd64, arm64
	Packages   []Deb
	// EditRelease, when set, changes the Release file before it is signed.
	EditRelease func(release string) string
	// EditIndex, when set, changes a Packages file before it is compressed.
	EditIndex func(arch, index string) string

	label, components, pool string // in which the archives differ
}

// DebianKey is an OpenPGP key that signs suites.
type DebianKey struct{ entity *openpgp.Entity }

// NewDebianKey makes a throw-away Ed25519 key that was created at the given
// moment and lives for lifetime (0: for ever).
func NewDebianKey(t testing.TB, created time.Time, lifetime time.Duration) *DebianKey {
	t.Helper()
	config := &packet.Config{Algorithm: packet.PubKeyAlgoEdDSA, Time: func() time.Time { return created },
		KeyLifetimeSecs: uint32(lifetime / time.Second)}
	e, err := openpgp.NewEntity("Test archive", "", "archive@imgctl.invalid", config)
	debMust(t, err)
	return &DebianKey{entity: e}
}

// Public returns the key's certificate, binary.
func (k *DebianKey) Public(t testing.TB) []byte {
	t.Helper()
	var b bytes.Buffer
	debMust(t, k.entity.Serialize(&b))
	return b.Bytes()
}

// ClearSign signs text with each of the keys, at the given moment.
func ClearSign(t testing.TB, text string, at time.Time, keys ...*DebianKey) []byte {
	t.Helper()
	private := make([]*packet.PrivateKey, len(keys))
	for i, k := range keys {
		private[i] = k.entity.PrivateKey
	}
	var out bytes.Buffer
	w, err := clearsign.EncodeMulti(&out, private, &packet.Config{Time: func() time.Time { return at }})
	debMust(t, err)
	_, err = w.Write([]byte(text))
	debMust(t, err)
	debMust(t, w.Close())
	return append(out.Bytes(), '\n')
}

// NewDebian starts an archive with the packages. It ends with the test.
func NewDebian(t testing.TB, packages ...Deb) *Debian {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	d := &Debian{name: "debian", key: NewDebianKey(t, now.AddDate(-1, 0, 0), 0)}
	d.DebianSuite = DebianSuite{Suite: "stable", Codename: "trixie", Date: now, Arches: []string{"amd64", "arm64"}, Packages: packages,
		label: "Debian", components: "main contrib", pool: "pool/main/"}
	d.start(t)
	return d
}

// Security starts the archive of d's security updates, signed by the same key: its
// suite is d's with "-security" at the end, and is valid for a week.
func (d *Debian) Security(t testing.TB, packages ...Deb) *Debian {
	t.Helper()
	s := &Debian{name: "debian-security", key: d.key}
	s.DebianSuite = DebianSuite{Suite: d.Suite + "-security", Codename: d.Codename + "-security", Date: d.Date, ValidUntil: d.Date.AddDate(0, 0, 7),
		Arches: d.Arches, Packages: packages, label: "Debian-Security", components: "updates/main updates/contrib", pool: "pool/updates/main/"}
	s.start(t)
	return s
}

// AddSuite gives the archive a further suite, d's own with the suffix at the end
// of its names, such as "-updates", and publishes it.
func (d *Debian) AddSuite(t testing.TB, suffix string, packages ...Deb) *DebianSuite {
	t.Helper()
	s := &DebianSuite{Suite: d.Suite + suffix, Codename: d.Codename + suffix, Date: d.Date, Arches: d.Arches, Packages: packages,
		label: d.label, components: d.components, pool: d.pool}
	d.Others = append(d.Others, s)
	d.Publish(t)
	return s
}

// start serves the archive until the test ends.
func (d *Debian) start(t testing.TB) {
	d.Keyring = d.key.Public(t)
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	d.URL = server.URL + "/" + d.name
	d.Publish(t)
}

// Publish makes all files anew from the fields, undoing what [Debian.Edit] did.
func (d *Debian) Publish(t testing.TB) {
	t.Helper()
	d.PublishSigned(t, d.key)
}

// PublishSigned is [Debian.Publish] with other keys than the archive's own.
func (d *Debian) PublishSigned(t testing.TB, keys ...*DebianKey) {
	t.Helper()
	files := make(map[string][]byte)
	d.publish(t, files, keys)
	for _, s := range d.Others {
		s.publish(t, files, keys)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files = files
}

// publish puts the suite among the files of its archive.
func (d *DebianSuite) publish(t testing.TB, files map[string][]byte, keys []*DebianKey) {
	t.Helper()
	indexes := make(map[string]string)
	for _, p := range d.Packages {
		body := p.Bytes(t)
		name := d.pool + poolName(p)
		files[name] = body
		entry := fmt.Sprintf("%sFilename: %s\nSize: %d\nSHA256: %x\n\n", p.ControlFile(), name, len(body), sha256.Sum256(body))
		for _, arch := range d.Arches {
			if p.arch() == arch || p.arch() == "all" {
				indexes[arch] += entry
			}
		}
	}
	dists := "dists/" + d.Codename + "/"
	var sums strings.Builder
	for _, arch := range d.Arches {
		d.addIndex(t, files, dists, arch, indexes[arch], &sums)
	}
	release := d.release(sums.String())
	if d.EditRelease != nil {
		release = d.EditRelease(release)
	}
	files[dists+"InRelease"] = ClearSign(t, release, d.Date, keys...)
	files["dists/"+d.Suite+"/InRelease"] = files[dists+"InRelease"]
}

// addIndex puts the Packages index of one architecture among the files.
func (d *DebianSuite) addIndex(t testing.TB, files map[string][]byte, dists, arch, index string, sums *strings.Builder) {
	if d.EditIndex != nil {
		index = d.EditIndex(arch, index)
	}
	var out bytes.Buffer
	w, err := xz.WriterConfig{DictCap: 1 << 16}.NewWriter(&out)
	debMust(t, err)
	_, err = w.Write([]byte(index))
	debMust(t, err)
	debMust(t, w.Close())
	dir := "main/binary-" + arch + "/"
	digest := fmt.Sprintf("%x", sha256.Sum256(out.Bytes()))
	fmt.Fprintf(sums, " %s %d %s\n", digest, out.Len(), dir+"Packages.xz")
	files[dists+dir+"Packages.xz"] = out.Bytes()
	if !d.NoByHash {
		files[dists+dir+"by-hash/SHA256/"+digest] = out.Bytes()
	}
}

// release returns the text of the Release file.
func (d *DebianSuite) release(sums string) string {
	const layout = "Mon, 02 Jan 2006 15:04:05 UTC"
	s := fmt.Sprintf("Origin: Debian\nLabel: %s\nSuite: %s\nCodename: %s\nDate: %s\n", d.label, d.Suite, d.Codename, d.Date.UTC().Format(layout))
	if !d.ValidUntil.IsZero() {
		s += "Valid-Until: " + d.ValidUntil.UTC().Format(layout) + "\n"
	}
	if !d.NoByHash {
		s += "Acquire-By-Hash: yes\n"
	}
	return s + "Architectures: all " + strings.Join(d.Arches, " ") + "\nComponents: " + d.components + "\nSHA256:\n" + sums
}

// poolName is where a package lies below the pool of its archive.
func poolName(p Deb) string {
	_, version, hasEpoch := strings.Cut(p.version(), ":")
	if !hasEpoch {
		version = p.version()
	}
	return fmt.Sprintf("%s/%s/%s_%s_%s.deb", p.Name[:1], p.Name, p.Name, version, p.arch())
}

// Edit replaces the file at path, relative to URL, by what fn makes of it; nil
// removes it. It fails the test when there is no such file.
func (d *Debian) Edit(t testing.TB, path string, fn func([]byte) []byte) {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	old, ok := d.files[path]
	if !ok {
		t.Fatalf("the test archive has no %s", path)
	}
	if body := fn(slices.Clone(old)); body != nil {
		d.files[path] = body
	} else {
		delete(d.files, path)
	}
}

// Tamper flips one bit in the middle of a file.
func (d *Debian) Tamper(t testing.TB, path string) {
	t.Helper()
	d.Edit(t, path, func(b []byte) []byte { b[len(b)/2] ^= 1; return b })
}

// Drop makes a file disappear.
func (d *Debian) Drop(t testing.TB, path string) {
	t.Helper()
	d.Edit(t, path, func([]byte) []byte { return nil })
}

// Paths returns the files whose path contains part, sorted.
func (d *Debian) Paths(part string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var all []string
	for path := range d.files {
		if strings.Contains(path, part) {
			all = append(all, path)
		}
	}
	slices.SortFunc(all, cmp.Compare[string])
	return all
}

// Requests returns the paths that were asked for so far, relative to URL, in order.
func (d *Debian) Requests() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.requests)
}

// snapshot returns all files as they are now, by path.
func (d *Debian) snapshot() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.files)
}

// ServeHTTP serves the archive below its name.
func (d *Debian) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := strings.TrimPrefix(r.URL.Path, "/"+d.name+"/")
	d.mu.Lock()
	body, ok := d.files[path]
	d.requests = append(d.requests, path)
	d.mu.Unlock()
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	http.ServeContent(w, r, "", debTime, bytes.NewReader(body))
}
