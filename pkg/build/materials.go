package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/pkg/build/rootfs"
	"github.com/imgctl/imgctl/pkg/upstream"
)

// Materials fetches what a lock names, and has it proved. Its methods may be
// called concurrently.
type Materials struct {
	Upstream *upstream.Client
	Debian   Archives
	// Cache is a directory of which engines may have subdirectories of their own.
	Cache string
}

// Packages fetches the Debian packages of the image. They are in the lock's
// order, which is sorted by name.
func (m *Materials) Packages(ctx context.Context, in Input) ([]rootfs.Package, error) {
	locked := in.Packages()
	files, err := m.Debian.fetch(ctx, in.Lock, locked)
	if err != nil {
		return nil, err
	}
	packages := make([]rootfs.Package, len(locked))
	for i, p := range locked {
		packages[i] = rootfs.Package{Name: p.Name, Version: p.Version, File: files[i]}
	}
	return packages, nil
}

// Published fetches what upstream publishes for the image, each file once, and
// has it proved. That is done for every build: a proof that is only remembered is none.
func (m *Materials) Published(ctx context.Context, in Input) ([]*upstream.Blob, error) {
	paths := in.sources()
	blobs := make([]*upstream.Blob, len(paths))
	g, ctx := errgroup.WithContext(ctx)
	for i, path := range paths {
		g.Go(func() (err error) {
			pin, _ := in.pin(path) // it is there: see Lock.Check
			if blobs[i], err = m.Upstream.Fetch(ctx, pin, in.Spec.Upstream.Require); err != nil {
				return fmt.Errorf("%w (%s)", err, filepath.Join(in.Spec.dir, LockFile))
			}
			return nil
		})
	}
	return blobs, g.Wait()
}

// Programs returns the files of the image that no package brings: upstream's, in
// the spec's order, and then copies of those that stand beside the spec. published
// is what [Materials.Published] has returned; upstream's files must be for the
// platform and of the version.
func (m *Materials) Programs(ctx context.Context, in Input, published []*upstream.Blob) ([]rootfs.OnDisk, error) {
	files, err := m.extract(ctx, in, published)
	if err != nil {
		return nil, err
	}
	local, err := m.local(in)
	return append(files, local...), err
}

// sources returns what has to be fetched from upstream, each once and sorted.
func (in Input) sources() []string {
	return in.Spec.sources(in.Target.Version, in.Platform.Architecture)
}

// extract returns upstream's files as they are in the cache, each checked to be
// for the platform and of the version. Members of one tarball are extracted in one pass.
func (m *Materials) extract(ctx context.Context, in Input, blobs []*upstream.Blob) ([]rootfs.OnDisk, error) {
	version, arch := in.Target.Version, in.Platform.Architecture
	files := make([]rootfs.OnDisk, len(in.Spec.Upstream.Files))
	for _, b := range blobs {
		var members []string
		var wanted []int
		for i, f := range in.Spec.Upstream.Files {
			if f.source(version, arch) != b.Path {
				continue
			}
			files[i] = rootfs.OnDisk{Path: f.Path, File: b.File, Mode: 0o755}
			if f.Member != "" {
				members, wanted = append(members, f.Member), append(wanted, i)
			}
		}
		if len(members) == 0 {
			continue
		}
		paths, err := m.Upstream.ExtractAll(ctx, b, members...)
		if err != nil {
			return nil, err
		}
		for j, i := range wanted {
			files[i].File = paths[j]
		}
	}
	for i, f := range files {
		if err := upstream.CheckELF(f.File, arch); err != nil {
			return nil, fmt.Errorf("%s: %w", in.Spec.Upstream.Files[i].Path, err)
		}
		if err := upstream.CheckVersion(f.File, version); err != nil {
			return nil, fmt.Errorf("%s: %w", in.Spec.Upstream.Files[i].Path, err)
		}
	}
	return slices.Clip(files), nil
}

// local copies the files that stand beside the spec into the cache, so that what
// is hashed is what goes into the image, whatever happens to a file meanwhile.
// One that the lock does not mean is a [*StaleError].
func (m *Materials) local(in Input) ([]rootfs.OnDisk, error) {
	var files []rootfs.OnDisk
	for _, f := range in.Spec.Local {
		want, _ := in.Lock.local(f.file(in.Platform.Architecture)) // it is there: see Lock.Check
		mode := int64(0o755)
		if f.Mode != "" {
			var err error
			if mode, err = strconv.ParseInt(f.Mode, 8, 64); err != nil {
				return nil, fmt.Errorf("local: %w", err)
			}
		}
		path := filepath.Join(m.Cache, "local", want.SHA256)
		if err := copyLocal(in.Spec, want, path); err != nil {
			return nil, fmt.Errorf("local: %w", err)
		}
		files = append(files, rootfs.OnDisk{Path: f.Path, File: path, Mode: mode})
	}
	return files, nil
}

// copyLocal brings the file that the lock means to path. Another one is a [*StaleError].
func copyLocal(s *Spec, want LockedFile, path string) error {
	from, err := s.openLocal(want.Name)
	if err != nil {
		return err
	}
	defer from.Close()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	h := sha256.New()
	if err := atomicfile.Write(path, 0o444, io.TeeReader(io.LimitReader(from, want.Size+1), h)); err != nil {
		return err
	}
	if got := hex.EncodeToString(h.Sum(nil)); got != want.SHA256 {
		stale := &StaleError{Dir: s.dir, Why: fmt.Sprintf("made for another %s (got %.12s…, want %.12s…)", want.Name, got, want.SHA256)}
		return errors.Join(stale, os.Remove(path))
	}
	return nil
}
