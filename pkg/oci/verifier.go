package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// verifier passes a blob on while it compares size and digest.
type verifier struct {
	rc     io.ReadCloser
	want   v1.Descriptor
	object string // for errors
	sum    hash.Hash
	n      int64
	err    error // sticky; io.EOF after a good end
}

func newVerifier(rc io.ReadCloser, want v1.Descriptor, object string) *verifier {
	return &verifier{rc: rc, want: want, object: object, sum: sha256.New()}
}

// Read implements [io.Reader]. The last bytes are returned together with the
// verdict about them, or after it, never before it.
func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	left := v.want.Size - v.n
	if int64(len(p)) > left {
		p = p[:left]
	}
	n := 0
	if len(p) > 0 {
		n, v.err = v.rc.Read(p)
		v.n += int64(n)
		v.sum.Write(p[:n])
	}
	if v.err == io.EOF && v.n < v.want.Size {
		v.err = v.sizeError(fmt.Sprint(v.n))
	}
	if v.n == v.want.Size && (v.err == nil || v.err == io.EOF) {
		v.err = v.finish(v.err == io.EOF)
	}
	if v.err != nil && v.err != io.EOF {
		return 0, v.err
	}
	return n, v.err
}

// finish returns io.EOF when nothing follows and the digest is right.
func (v *verifier) finish(ended bool) error {
	if !ended {
		var one [1]byte
		switch n, err := io.ReadFull(v.rc, one[:]); {
		case n > 0:
			return v.sizeError(fmt.Sprintf("more than %d", v.want.Size))
		case err != io.EOF:
			return err
		}
	}
	if got := hex.EncodeToString(v.sum.Sum(nil)); got != v.want.Digest.Hex {
		return &DigestError{Object: v.object, What: "sha256", Got: got, Want: v.want.Digest.Hex}
	}
	return io.EOF
}

func (v *verifier) sizeError(got string) error {
	return &DigestError{Object: v.object, What: "size", Got: got, Want: fmt.Sprint(v.want.Size)}
}

// Close implements [io.Closer]. It touches nothing that Read uses: HTTP clients
// close a body that another goroutine still reads.
func (v *verifier) Close() error { return v.rc.Close() }
