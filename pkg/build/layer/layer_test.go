package layer

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/klauspost/compress/zstd"
)

// sample is n bytes that compress to about half.
func sample(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(r.IntN(16))
	}
	return b
}

// get makes or finds the layer that holds data.
func get(t testing.TB, s *Store, key string, data []byte) (*Layer, string, bool) {
	t.Helper()
	made := false
	var notes string
	l, err := s.Get(context.Background(), key, &notes, func(w io.Writer) (any, error) {
		made = true
		_, err := w.Write(data)
		return "notes of " + key, err
	})
	if err != nil {
		t.Fatal(err)
	}
	return l, notes, made
}

func TestALayerIsMadeOnce(t *testing.T) {
	s := &Store{Dir: filepath.Join(t.TempDir(), "layers")}
	data := sample(3*blockSize + 17)
	l, notes, made := get(t, s, "key", data)
	if !made || notes != "notes of key" {
		t.Errorf("made %v, notes %q", made, notes)
	}
	again, notes, made := get(t, s, "key", nil)
	if made || notes != "notes of key" || *again != *l {
		t.Errorf("again: made %v, notes %q, %+v, want %+v", made, notes, again, l)
	}
	if _, _, made := get(t, s, "other", data); !made {
		t.Error("another key was taken for the same layer")
	}
	checkContent(t, l, data)
}

// checkContent compares a layer with what it was made of, in the way of a client
// that knows nothing of this package.
func checkContent(t *testing.T, l *Layer, data []byte) {
	t.Helper()
	c, err := l.Compressed()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	compressed, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	size, _ := l.Size()
	digest, _ := l.Digest()
	if got := fmt.Sprintf("%x", sha256.Sum256(compressed)); got != digest.Hex || int64(len(compressed)) != size {
		t.Errorf("got %s, %d bytes, want %s, %d", got, len(compressed), digest, size)
	}
	plain, err := io.ReadAll(foreignReader(t, l, compressed))
	if err != nil || !bytes.Equal(plain, data) {
		t.Errorf("got %d bytes, %v, want what was written", len(plain), err)
	}
	u, err := l.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	diffID, _ := l.DiffID()
	if plain, err := io.ReadAll(u); err != nil || !bytes.Equal(plain, data) || fmt.Sprintf("%x", sha256.Sum256(plain)) != diffID.Hex {
		t.Errorf("uncompressed: got %d bytes, %v", len(plain), err)
	}
}

// foreignReader decompresses as the layer's media type says.
func foreignReader(t *testing.T, l *Layer, compressed []byte) io.Reader {
	t.Helper()
	mediaType, _ := l.MediaType()
	if mediaType == types.OCILayerZStd {
		z, err := zstd.NewReader(bytes.NewReader(compressed))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(z.Close)
		return z
	}
	z, err := gzip.NewReader(bytes.NewReader(compressed))
	if err != nil {
		t.Fatal(err)
	}
	if mediaType != types.OCILayer || !z.ModTime.IsZero() && z.ModTime.Unix() != 0 || z.Name != "" {
		t.Errorf("%s: the header says %v and %q", mediaType, z.ModTime, z.Name)
	}
	return z
}

func blobPath(t *testing.T, s *Store) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.Dir, "*.tar.*"))
	if err != nil || len(found) != 1 {
		t.Fatalf("got %q, %v, want one layer", found, err)
	}
	return found[0]
}

// B11: what is read is what was built, or an error.
func TestALayerThatChangesOnDiskIsNoticedWhileReading(t *testing.T) {
	data := sample(2 * blockSize)
	for name, damage := range map[string]func([]byte) []byte{
		"one bit":   func(b []byte) []byte { b[len(b)/2] ^= 1; return b },
		"truncated": func(b []byte) []byte { return b[:len(b)-1] },
		"longer":    func(b []byte) []byte { return append(b, 0) },
		"empty":     func([]byte) []byte { return nil },
	} {
		for _, c := range []Compression{{}, {Algorithm: Zstd}} {
			t.Run(c.String()+" "+name, func(t *testing.T) {
				s := &Store{Dir: t.TempDir(), Compression: c}
				l, _, _ := get(t, s, "k", data)
				path := blobPath(t, s)
				body, err := os.ReadFile(path)
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, damage(body), 0o644); err != nil {
					t.Fatal(err)
				}
				for kind, open := range map[string]func() (io.ReadCloser, error){"compressed": l.Compressed, "uncompressed": l.Uncompressed} {
					r, err := open()
					if err == nil {
						_, err = io.Copy(io.Discard, r)
						r.Close()
					}
					var changed *ChangedError
					if kind == "compressed" && !errors.As(err, &changed) || err == nil {
						t.Errorf("%s: got %v, want a ChangedError", kind, err)
					}
				}
				if l, _, made := get(t, s, "k", data); !made {
					t.Error("the damaged layer was used again")
				} else {
					checkContent(t, l, data)
				}
			})
		}
	}
}

func TestARecordThatCannotBeReadIsMadeAgain(t *testing.T) {
	for name, record := range map[string]string{"not JSON": "{", "empty": "", "another": `{"digest":"sha256:` + strings.Repeat("0", 64) + `"}`} {
		t.Run(name, func(t *testing.T) {
			s := &Store{Dir: t.TempDir()}
			get(t, s, "k", []byte("data"))
			if err := os.WriteFile(filepath.Join(s.Dir, "k.json"), []byte(record), 0o644); err != nil {
				t.Fatal(err)
			}
			if _, _, made := get(t, s, "k", []byte("data")); !made {
				t.Error("the record was believed")
			}
		})
	}
}

func TestAFailureLeavesNothing(t *testing.T) {
	s := &Store{Dir: t.TempDir()}
	failure := errors.New("failure")
	_, err := s.Get(context.Background(), "k", new(any), func(w io.Writer) (any, error) {
		_, err := w.Write(sample(blockSize))
		return nil, errors.Join(err, failure)
	})
	if !errors.Is(err, failure) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	_, err = s.Get(ctx, "k", new(any), func(w io.Writer) (any, error) {
		cancel()
		_, err := w.Write(sample(blockSize))
		return nil, err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	left, err := filepath.Glob(filepath.Join(s.Dir, "*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "k.lock" {
		t.Errorf("left: %q, %v", left, err)
	}
}

// What a killed process has left is neither used nor in the way.
func TestAnUnfinishedLayerIsOverwritten(t *testing.T) {
	s := &Store{Dir: t.TempDir()}
	if err := os.WriteFile(filepath.Join(s.Dir, "k.part"), sample(10_000), 0o644); err != nil {
		t.Fatal(err)
	}
	l, _, _ := get(t, s, "k", []byte("data"))
	checkContent(t, l, []byte("data"))
}

func TestWhoAsksAtTheSameTimeWaits(t *testing.T) {
	s := &Store{Dir: t.TempDir()}
	var mu sync.Mutex
	var group sync.WaitGroup
	made := 0
	for range 8 {
		group.Go(func() {
			_, err := s.Get(context.Background(), "k", new(any), func(w io.Writer) (any, error) {
				mu.Lock()
				defer mu.Unlock()
				made++
				_, err := w.Write(sample(blockSize))
				return nil, err
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if made != 1 {
		t.Errorf("made %d times, want once", made)
	}
}
