package imgtest

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/imgctl/imgctl/pkg/upstream"
	"github.com/klauspost/pgzip"
)

// Kube is a release of Kubernetes that is to be published in the layout of
// dl.k8s.io. It needs no test: a demonstration can publish real binaries with it.
type Kube struct {
	Version string // such as "v1.36.2"
	// Binaries are the paths of the programs, by architecture and name:
	// Binaries["arm64"]["kubelet"].
	Binaries map[string]map[string]string
	// Signer signs every file; nil publishes no .sig and .cert.
	Signer *Sigstore
	// Signing is how it does.
	Signing Signing
}

// Write puts the release into dir: for each architecture the node tarball and
// each binary on its own, each with .sha512, .sha256, .sig and .cert, and the
// channel files. The tarball is the same bytes each time, on any machine. Files
// of any size pass through without being held in memory.
func (k Kube) Write(dir string) error {
	var files []string
	for _, arch := range slices.Sorted(maps.Keys(k.Binaries)) {
		tarball := filepath.Join(dir, upstream.NodeTarball(k.Version, arch))
		if err := k.writeTarball(tarball, k.Binaries[arch]); err != nil {
			return fmt.Errorf("write %s: %w", tarball, err)
		}
		files = append(files, tarball)
		for _, name := range slices.Sorted(maps.Keys(k.Binaries[arch])) {
			dst := filepath.Join(dir, upstream.Binary(k.Version, arch, name))
			if err := linkOrCopy(k.Binaries[arch][name], dst); err != nil {
				return err
			}
			files = append(files, dst)
		}
	}
	for _, f := range files {
		if err := k.writeProofs(f); err != nil {
			return err
		}
	}
	line := "stable-" + strings.TrimPrefix(k.Version[:strings.LastIndexByte(k.Version, '.')], "v")
	for _, channel := range []string{"stable", line, "latest"} {
		if err := os.WriteFile(filepath.Join(dir, "release", channel+".txt"), []byte(k.Version), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// writeTarball makes what Kubernetes' release tools make, as far as a node needs it.
func (k Kube) writeTarball(dst string, binaries map[string]string) (err error) {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	f, err := os.Create(dst)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	// pgzip cuts its input into blocks of a fixed size: the output does not
	// depend on the number of cores.
	gz, err := pgzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(gz)
	for _, d := range []string{"kubernetes/", "kubernetes/node/", "kubernetes/node/bin/"} {
		if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: d, Mode: 0o755, ModTime: time.Unix(0, 0)}); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(binaries)) {
		if err := addFile(tw, "kubernetes/node/bin/"+name, binaries[name]); err != nil {
			return err
		}
	}
	return errors.Join(tw.Close(), gz.Close())
}

func addFile(tw *tar.Writer, name, src string) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: fi.Size(), ModTime: time.Unix(0, 0)}); err != nil {
		return err
	}
	_, err = io.Copy(tw, f)
	return err
}

// linkOrCopy makes dst the file src, without a second copy where that is possible.
func linkOrCopy(src, dst string) error {
	if err := os.MkdirAll(filepath.Dir(dst), 0o755); err != nil {
		return err
	}
	if err := os.Remove(dst); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if os.Link(src, dst) == nil {
		return nil
	}
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.Create(dst)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}

// writeProofs writes what is published beside the file at path.
func (k Kube) writeProofs(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	h256, h512 := sha256.New(), sha512.New()
	if _, err := io.Copy(io.MultiWriter(h256, h512), f); err != nil {
		return err
	}
	proofs := map[string][]byte{
		".sha256": []byte(hex.EncodeToString(h256.Sum(nil))),
		".sha512": []byte(hex.EncodeToString(h512.Sum(nil))),
	}
	if k.Signer != nil {
		signed, err := k.Signer.SignDigest([sha256.Size]byte(h256.Sum(nil)), k.Signing)
		if err != nil {
			return fmt.Errorf("sign %s: %w", path, err)
		}
		proofs[".sig"], proofs[".cert"] = signed.Sig, signed.Cert
	}
	for ext, data := range proofs {
		if err := os.WriteFile(path+ext, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
