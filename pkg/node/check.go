package node

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/imgctl/imgctl/pkg/bundle/content"
)

// changes compares a generation's files with its record: kind, size, mode,
// owner and, whatever those say, every byte (CATALOGUE N19). An error means that
// the disk could not be read, which is not the same as a change.
func (st *state) changes(g Generation) ([]Change, error) {
	var all []Change
	for _, f := range g.Bundle.Files {
		c, err := fileChanges(st.disk, path.Join(dirOf(g.ID), treeName, f.Path), f)
		if err != nil {
			return nil, fmt.Errorf("check generation %d: %w", g.ID, err)
		}
		all = append(all, c...)
	}
	return all, nil
}

func fileChanges(d *disk, name string, f content.File) ([]Change, error) {
	if err := checkDirs(d, name); err != nil {
		return []Change{{Path: f.Path, What: "file", Got: "a directory above it is none", Want: "a file"}}, nil
	}
	fi, err := d.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return []Change{{Path: f.Path, What: "file", Got: "nothing", Want: "a file"}}, nil
	}
	if err != nil {
		return nil, err
	}
	if !fi.Mode().IsRegular() {
		return []Change{{Path: f.Path, What: "file", Got: kind(fi), Want: "a file"}}, nil
	}
	var all []Change
	add := func(what string, got, want any) {
		if g, w := fmt.Sprint(got), fmt.Sprint(want); g != w {
			all = append(all, Change{Path: f.Path, What: what, Got: g, Want: w})
		}
	}
	uid, gid := owner(fi)
	const permissions = fs.ModePerm | fs.ModeSetuid | fs.ModeSetgid | fs.ModeSticky
	add("mode", fi.Mode()&permissions, fs.FileMode(f.Mode))
	add("owner", fmt.Sprintf("%d:%d", uid, gid), fmt.Sprintf("%d:%d", f.UID, f.GID))
	if fi.Size() != f.Size {
		add("size", fi.Size(), f.Size)
		return all, nil // no need to read a file that somebody made huge
	}
	digest, err := hash(d, name)
	if err != nil {
		return nil, err
	}
	add("content", digest, f.Digest)
	return all, nil
}

func hash(d *disk, name string) (string, error) {
	f, err := d.open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, io.LimitReader(f, content.MaxFileSize+1)); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// linkChanges compares the links of a generation with the disk.
func (st *state) linkChanges(g Generation) []Change {
	var all []Change
	for _, f := range g.Bundle.Files {
		switch is, what := linkAt(st.disk, f.Path); is {
		case absent:
			all = append(all, Change{Path: f.Path, What: "link", Got: "nothing", Want: "a link into the store"})
		case foreign:
			all = append(all, Change{Path: f.Path, What: "link", Got: what, Want: "a link into the store"})
		}
	}
	return all
}
