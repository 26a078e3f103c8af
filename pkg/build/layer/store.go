package layer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/filelock"
)

// maxRecord bounds the file that says what a layer is, in bytes.
const maxRecord = 64 << 20

// Store is a directory of layers. Any number of processes may share it.
type Store struct {
	Dir         string
	Compression Compression // of the layers that [Store.Get] returns
	Jobs        int         // how many pieces of a layer are compressed at once; 0: 2
}

// record is what a layer's file beside it says.
type record struct {
	Digest      v1.Hash         `json:"digest"`
	DiffID      v1.Hash         `json:"diffID"`
	Size        int64           `json:"size"`
	Compression string          `json:"compression,omitempty"` // [Compression.Version]; "": [Version]
	Notes       json.RawMessage `json:"notes"`
}

// Get returns the layer of the key, which is a file name. When it is not there
// it is made: fill writes the tar archive and returns notes about it, which are
// kept with the layer as JSON. Either way notes is set to what fill returned.
//
// A layer that is there but compressed in another way is made again. Who uses
// several ways puts [Compression.Version] into the key, so that each has its place.
//
// Two processes that want the same layer wait for each other. On an error, also
// that of a cancelled ctx, the store is as it was.
func (s *Store) Get(ctx context.Context, key string, notes any, fill func(io.Writer) (any, error)) (*Layer, error) {
	if err := s.Compression.Validate(); err != nil {
		return nil, fmt.Errorf("compression: %w", err)
	}
	unlock, err := filelock.Lock(ctx, filepath.Join(s.Dir, key+".lock"))
	if err != nil {
		return nil, err
	}
	defer unlock()
	r, err := s.lookup(key)
	if err != nil {
		return nil, err
	}
	if r == nil {
		if r, err = s.make(ctx, key, fill); err != nil {
			return nil, err
		}
	}
	if err := json.Unmarshal(r.Notes, notes); err != nil {
		return nil, fmt.Errorf("notes of layer %s: %w", key, err)
	}
	return s.layer(r), nil
}

func (s *Store) blob(r *record) string {
	return filepath.Join(s.Dir, r.Digest.Hex+s.Compression.suffix())
}

func (s *Store) layer(r *record) *Layer {
	return &Layer{path: s.blob(r), digest: r.Digest, diffID: r.DiffID, size: r.Size, mediaType: s.Compression.MediaType()}
}

// lookup returns the layer of the key, nil when it is not there or damaged. A
// damaged one is made again; why it is damaged makes no difference.
func (s *Store) lookup(key string) (*record, error) {
	f, err := os.Open(filepath.Join(s.Dir, key+".json"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	if err != nil {
		return nil, err
	}
	var r record
	if json.Unmarshal(data, &r) != nil || r.Digest.Algorithm != "sha256" || r.DiffID.Algorithm != "sha256" {
		return nil, nil
	}
	if cmp.Or(r.Compression, Version) != s.Compression.Version() {
		return nil, nil
	}
	whole, err := s.layer(&r).Compressed()
	if err != nil {
		return nil, nil
	}
	defer whole.Close()
	if _, err := io.Copy(io.Discard, whole); err != nil {
		return nil, nil
	}
	return &r, nil
}

// make compresses a layer into the store. The file has its final name only when
// it is whole, and its record is written after it. Neither is synced: what a power
// cut damages is found by its hash and made again.
func (s *Store) make(ctx context.Context, key string, fill func(io.Writer) (any, error)) (*record, error) {
	part := filepath.Join(s.Dir, key+".part") // one that a killed process left is overwritten: we hold the key's lock
	f, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	r, err := s.compress(ctx, f, fill)
	if err := errors.Join(err, f.Close()); err != nil {
		return nil, errors.Join(err, os.Remove(part))
	}
	if err := os.Rename(part, s.blob(r)); err != nil {
		return nil, err
	}
	data, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	return r, atomicfile.Write(filepath.Join(s.Dir, key+".json"), 0o644, bytes.NewReader(data))
}

// compress writes what fill writes to w, compressed, and hashes both on the way.
func (s *Store) compress(ctx context.Context, w io.Writer, fill func(io.Writer) (any, error)) (*record, error) {
	compressed := &sink{w: w, hash: sha256.New()}
	z, err := newCompressor(compressed, s.Compression, s.Jobs)
	if err != nil {
		return nil, err
	}
	plain := &sink{w: z, hash: sha256.New(), stop: ctx.Err}
	notes, err := fill(plain)
	if err := errors.Join(err, z.Close()); err != nil {
		return nil, err
	}
	raw, err := json.Marshal(notes)
	if err != nil {
		return nil, err
	}
	return &record{Digest: compressed.digest(), DiffID: plain.digest(), Size: compressed.n, Compression: s.Compression.Version(), Notes: raw}, nil
}

// sink counts and hashes what is written.
type sink struct {
	w    io.Writer
	hash hash.Hash
	n    int64
	stop func() error // why not to go on; nil: never stops
}

// Write implements [io.Writer].
func (s *sink) Write(p []byte) (int, error) {
	if s.stop != nil {
		if err := s.stop(); err != nil {
			return 0, err
		}
	}
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	s.n += int64(n)
	return n, err
}

func (s *sink) digest() v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(s.hash.Sum(nil))}
}
