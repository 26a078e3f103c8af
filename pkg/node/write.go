package node

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// source is a verified bundle: its list, and where the bytes of each file are.
type source struct {
	digest, repository, from string
	bundle                   content.Bundle
	open                     func(context.Context, content.File) (io.ReadCloser, error)
}

// write makes g a complete generation with the files of src, durable when it
// returns. On an error nothing of it is left.
func (st *state) write(ctx context.Context, g Generation, src source) error {
	staging := stagingOf(g.ID)
	if err := st.stage(ctx, staging, g, src); err != nil {
		return errors.Join(err, st.disk.removeAll(staging))
	}
	if err := st.disk.rename(staging, dirOf(g.ID)); err != nil {
		return errors.Join(err, st.disk.removeAll(staging))
	}
	st.generations[g.ID] = g
	return nil
}

// stage writes and syncs everything of g below the directory staging.
func (st *state) stage(ctx context.Context, staging string, g Generation, src source) error {
	tree := path.Join(staging, treeName)
	dirs := map[string]bool{staging: true}
	for _, f := range g.Bundle.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		name := path.Join(tree, f.Path)
		if err := st.disk.mkdirs(path.Dir(name)); err != nil {
			return err
		}
		addUp(dirs, path.Dir(name), staging)
		if err := st.writeFile(ctx, name, f, src); err != nil {
			return fmt.Errorf("write %s: %w", f.Path, err)
		}
	}
	if err := st.writeRecord(path.Join(staging, recordName), g); err != nil {
		return err
	}
	return st.disk.syncDirs(dirs)
}

// writeFile writes one file, and compares what was written with the list.
func (st *state) writeFile(ctx context.Context, name string, f content.File, src source) error {
	body, err := src.open(ctx, f)
	if err != nil {
		return err
	}
	defer body.Close()
	return st.disk.write(name, f.Mode, int(f.UID), int(f.GID), func(w io.Writer) error {
		h := sha256.New()
		n, err := io.Copy(io.MultiWriter(w, h), io.LimitReader(body, f.Size+1))
		if err != nil {
			return err
		}
		if n != f.Size {
			return fmt.Errorf("size: got %d bytes or more, want %d", n, f.Size)
		}
		if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != f.Digest {
			return fmt.Errorf("content: got %s, want %s", got, f.Digest)
		}
		return nil
	})
}

func (st *state) writeRecord(name string, g Generation) error {
	data, err := json.MarshalIndent(g, "", "  ")
	if err != nil {
		return err
	}
	return st.disk.write(name, 0o644, os.Geteuid(), os.Getegid(), func(w io.Writer) error {
		_, err := io.Copy(w, bytes.NewReader(append(data, '\n')))
		return err
	})
}

// write makes the file name with what fill writes, and syncs it. The mode is
// set last: a change of owner takes bits away.
func (d *disk) write(name string, mode content.Mode, uid, gid int, fill func(io.Writer) error) error {
	f, err := d.create(name)
	if err != nil {
		return err
	}
	err = fill(writer{d, f, name})
	if err == nil {
		err = d.chown(f, name, uid, gid)
	}
	if err == nil {
		err = d.chmod(f, name, os.FileMode(mode))
	}
	if err == nil {
		err = d.sync(f, name)
	}
	return errors.Join(err, f.Close())
}
