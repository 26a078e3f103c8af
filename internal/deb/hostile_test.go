package deb

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// compressed compresses with the strongest window that the format's own tools use by default.
func compressed(t testing.TB, suffix string, window int, plain io.Reader) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser = gzip.NewWriter(&out)
	var err error
	switch suffix {
	case ".xz":
		w, err = xz.WriterConfig{DictCap: window}.NewWriter(&out)
	case ".zst":
		w, err = zstd.NewWriter(&out, zstd.WithWindowSize(window), zstd.WithEncoderConcurrency(1))
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(w, plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// bomb returns an archive of one file of size zeros.
func bomb(t testing.TB, size int64) io.Reader {
	t.Helper()
	var head bytes.Buffer
	w := tar.NewWriter(&head)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./usr/bomb", Mode: 0o644, Size: size}); err != nil {
		t.Fatal(err)
	}
	return io.MultiReader(&head, io.LimitReader(zeros{}, size+1024+(512-size%512)%512))
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// discard takes all entries, as whoever writes files does.
func discard(m Member) error {
	_, err := io.Copy(io.Discard, m.Body)
	return err
}

// B06: a data.tar that grows beyond what is allowed ends there, in every compression.
func TestADataBombEndsAtTheLimit(t *testing.T) {
	const limit = 4 << 20
	for _, suffix := range []string{".xz", ".gz", ".zst", ""} {
		t.Run("data.tar"+suffix, func(t *testing.T) {
			pack := func(size int64) []byte {
				if suffix == "" {
					plain, err := io.ReadAll(bomb(t, size))
					if err != nil {
						t.Fatal(err)
					}
					return plain
				}
				return compressed(t, suffix, 1<<20, bomb(t, size))
			}
			large := pack(limit)
			if suffix != "" && len(large) > limit/100 {
				t.Fatalf("the bomb has %d bytes", len(large))
			}
			err := unpackTar(bytes.NewReader(large), suffix, limit, false, discard)
			if err == nil || !strings.Contains(err.Error(), "larger than 4194304 bytes when decompressed") {
				t.Errorf("got %v", err)
			}
			if err := unpackTar(bytes.NewReader(pack(limit-4096)), suffix, limit, false, discard); err != nil {
				t.Errorf("one that just fits: %v", err)
			}
		})
	}
}

// B06: a few bytes must not make the decompressor reserve gigabytes.
func TestAWindowBeyondTheBoundIsRefused(t *testing.T) {
	for _, suffix := range []string{".xz", ".zst"} {
		small := compressed(t, suffix, maxWindow, io.LimitReader(zeros{}, maxWindow+1))
		if err := readWhole(small, suffix); err != nil {
			t.Errorf("%s: the largest that is allowed: %v", suffix, err)
		}
	}
	wide := compressed(t, ".xz", 2*maxWindow, strings.NewReader("x"))
	if err := readWhole(wide, ".xz"); err == nil {
		t.Error(".xz: a window of 128 MiB was accepted")
	}
	wide = compressed(t, ".zst", 2*maxWindow, io.LimitReader(zeros{}, 2*maxWindow+1))
	if err := readWhole(wide, ".zst"); err == nil {
		t.Error(".zst: a window of 128 MiB was accepted")
	}
}

func readWhole(data []byte, suffix string) error {
	r, err := decompress(bytes.NewReader(data), suffix, 1<<30)
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	return err
}

// What an archive says about sizes is compared with what it has.
func TestSizesThatLieAreNoticed(t *testing.T) {
	file := func(size string, body string) []byte {
		var out bytes.Buffer
		w := tar.NewWriter(&out)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./control", Mode: 0o644, Size: int64(len(body))}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, body); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		data := out.Bytes()
		copy(data[124:136], size)
		return withSum(data)
	}
	for name, tt := range map[string]struct {
		size string
		want error // nil: any
	}{
		"more than there is":        {"00000077777\x00", io.ErrUnexpectedEOF},
		"far more than there is":    {"77777777777\x00", io.ErrUnexpectedEOF},
		"more than can be":          {"\x80\x00\x00\x00\x7f\xff\xff\xff\xff\xff\xff\xff", nil},
		"less than nothing":         {"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", tar.ErrHeader},
		"no number":                 {"twelve bytes", tar.ErrHeader},
		"less than there is":        {"00000000001\x00", nil},
		"nothing where there is so": {"00000000000\x00", tar.ErrHeader},
	} {
		t.Run(name, func(t *testing.T) {
			body := "Package: tool\n" + strings.Repeat("x", 1000)
			var got []byte
			err := unpackTar(bytes.NewReader(file(tt.size, body)), "", maxControl, true, func(m Member) (err error) {
				got, err = io.ReadAll(m.Body)
				return err
			})
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Errorf("got %v, want %v; read %d bytes", err, tt.want, len(got))
			}
		})
	}
	body := "Package: tool\n"
	if err := unpackTar(bytes.NewReader(file("00000000016\x00", body)), "", maxControl, true, discard); err != nil {
		t.Errorf("the truth: %v", err)
	}
}

// withSum computes the checksum of the first header anew.
func withSum(data []byte) []byte {
	h := data[:512]
	copy(h[148:156], "        ")
	sum := 0
	for _, b := range h {
		sum += int(b)
	}
	copy(h[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return data
}

// B07: a sparse map costs no more memory than the bytes that it is written in.
func TestSparseFilesAreRefused(t *testing.T) {
	var pax bytes.Buffer
	w := tar.NewWriter(&pax)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./GNUSparseFile.0/x", Mode: 0o644, Size: 512, Format: tar.FormatPAX,
		PAXRecords: map[string]string{"VENDOR.x": "y"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(make([]byte, 512)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if err := unpackTar(bytes.NewReader(pax.Bytes()), "", maxData, false, discard); err != nil {
		t.Errorf("with harmless records: %v", err)
	}
	sparse := bytes.Replace(pax.Bytes(), []byte("VENDOR.x=y"), []byte("GNU.sparse"), 1) // same length, no longer a record
	if err := unpackTar(bytes.NewReader(sparse), "", maxData, false, discard); err == nil {
		t.Error("a damaged record was accepted")
	}
	for name, records := range map[string][]string{
		"version 0.0": {"GNU.sparse.size=1099511627776", "GNU.sparse.numblocks=1", "GNU.sparse.offset=0", "GNU.sparse.numbytes=512"},
		"version 0.1": {"GNU.sparse.size=1099511627776", "GNU.sparse.numblocks=1", "GNU.sparse.map=0,512"},
		"version 1.0": {"GNU.sparse.major=1", "GNU.sparse.minor=0", "GNU.sparse.name=x", "GNU.sparse.realsize=1099511627776"},
		"a million regions": {"GNU.sparse.size=1099511627776", "GNU.sparse.numblocks=1000000",
			"GNU.sparse.map=" + strings.TrimSuffix(strings.Repeat("0,0,", 1_000_000), ",")},
	} {
		t.Run(name, func(t *testing.T) {
			err := unpackTar(bytes.NewReader(sparseTar(t, records)), "", maxData, false, discard)
			if err == nil {
				t.Error("accepted")
			}
		})
	}
}

// sparseTar returns an archive of one file with these extended records, in order.
func sparseTar(t testing.TB, records []string) []byte {
	t.Helper()
	var text strings.Builder
	for _, r := range records {
		n := len(r) + 3
		for n != len(r)+2+len(strconv.Itoa(n)) {
			n = len(r) + 2 + len(strconv.Itoa(n))
		}
		text.WriteString(strconv.Itoa(n) + " " + r + "\n")
	}
	var out bytes.Buffer
	for _, e := range []struct {
		flag byte
		name string
		body string
	}{{tar.TypeXHeader, "PaxHeaders/x", text.String()}, {tar.TypeReg, "./x", "1\n0\n512\n" + strings.Repeat("\x00", 512-8) + strings.Repeat("x", 512)}} {
		h := make([]byte, 512)
		copy(h, e.name)
		copy(h[100:], "0000644\x00")
		copy(h[108:], "0000000\x000000000\x00")
		copy(h[124:], fmt.Sprintf("%011o\x00", len(e.body)))
		copy(h[136:], "00000000000\x00")
		h[156] = e.flag
		copy(h[257:], "ustar\x0000")
		out.Write(withSum(h))
		out.WriteString(e.body)
		out.Write(make([]byte, (512-len(e.body)%512)%512))
	}
	out.Write(make([]byte, 1024))
	return out.Bytes()
}

func FuzzChanges(f *testing.F) {
	f.Add([]byte("tool (1.0-1) unstable; urgency=low\n\n  * CVE-2026-12345\n\n -- A <a@b>  Mon, 02 Nov 2026 10:00:00 +0100\n"), "0.9")
	f.Add([]byte("tool (1.0) sid; CVE-2026-0001CVE-2026-00012\nCVE-2026-99999999999999"), "")
	f.Fuzz(func(t *testing.T, data []byte, installed string) {
		entries := parseChanges(data)
		for _, e := range entries {
			if _, err := parseVersion(e.Version); err != nil {
				t.Error(err)
			}
		}
		all := Changelog{Entries: entries}.CVEs(installed)
		for i, id := range all {
			if !cve.MatchString(id) || len(id) > len("CVE-2026-")+12 || slices.Contains(all[:i], id) {
				t.Errorf("%q of %q", id, all)
			}
		}
	})
}
