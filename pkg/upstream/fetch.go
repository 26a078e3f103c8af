package upstream

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/imgctl/imgctl/internal/download"
)

// Unproven says that a file is there and not enough speaks for it.
type Unproven struct {
	Object  string // the file's path
	Found   []Proof
	Require []Proof
	Err     error // why what is missing is missing; wraps [ErrNoSignature] when nobody claims to have signed
}

// Error is one line.
func (e *Unproven) Error() string {
	msg := fmt.Sprintf("%s is not verifiable: found %s, want %s", e.Object, list(e.Found), list(e.Require))
	if e.Err != nil {
		msg += ": " + e.Err.Error()
	}
	return msg + " (what is owed is set by upstream.require)"
}

// Unwrap returns why.
func (e *Unproven) Unwrap() error { return e.Err }

func list(ps []Proof) string {
	if len(ps) == 0 {
		return "nothing"
	}
	texts := make([]string, len(ps))
	for i, p := range ps {
		texts[i] = string(p)
	}
	return strings.Join(texts, " and ")
}

// Fetch brings the file that p names and what proves it, and returns it if
// every proof in require is among them.
//
// A p with a digest is pinned: exactly those bytes, from the cache or any base.
// A p with evidence is checked with that and nothing else. So a complete pin, as
// a former Blob carries it, needs no network once the bytes are in the cache. A
// p without a digest is looked up: the published checksums say which bytes, and
// the signature is looked for even when it is not required. To make a pin,
// therefore, require anything but Pinned, which only a former look can give.
//
// A required Checksum is also met by a pin. Errors are those of package download
// (*download.Mismatch for other bytes than pinned or published), [*Incomplete],
// or [*Unproven]. A signature that could not be asked for is never taken for one
// that does not exist: then [download.Unreachable] holds.
func (c *Client) Fetch(ctx context.Context, p Pin, require []Proof) (*Blob, error) {
	if err := checkPath(p.Path); err != nil {
		return nil, err
	}
	if err := checkRequire(require); err != nil {
		return nil, err
	}
	name, proof, full := path.Base(p.Path), Pinned, p
	if !p.pinned() {
		var err error
		if full, err = c.published(ctx, p); err != nil {
			return nil, fmt.Errorf("fetch %s: %w", p.Path, err)
		}
		proof = Checksum
	}
	f, err := c.Download.Get(ctx, name, c.urls(p.Path), download.Want{Size: full.Size, Max: MaxFile, SHA256: full.SHA256, SHA512: full.SHA512})
	if download.NotFound(err) {
		err = c.absent(ctx, p.Path, err)
	}
	if err != nil {
		return nil, err
	}
	b := &Blob{
		Pin:    Pin{Path: p.Path, Size: f.Size, SHA256: f.SHA256, SHA512: f.SHA512, Members: p.Members},
		File:   f.Path,
		URL:    f.URL,
		Proofs: []Proof{proof},
	}
	if err := c.prove(ctx, b, p, require); err != nil {
		return nil, err
	}
	return b, nil
}

// prove adds the signature to the proofs of b, and compares them with require.
func (c *Client) prove(ctx context.Context, b *Blob, p Pin, require []Proof) error {
	owed := slices.Contains(require, Signature)
	evidence, err := c.signature(ctx, b, p.Evidence, owed || !p.pinned())
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	switch {
	case evidence != nil:
		b.Evidence, b.Proofs = evidence, append(b.Proofs, Signature)
	case owed && download.Unreachable(err):
		return fmt.Errorf("fetch the signature of %s: %w", b.Path, err)
	default:
		b.Unsigned = err
	}
	for _, r := range require {
		if !slices.Contains(b.Proofs, r) && !(r == Checksum && slices.Contains(b.Proofs, Pinned)) {
			return &Unproven{Object: b.Path, Found: b.Proofs, Require: require, Err: err}
		}
	}
	return nil
}

// signature returns evidence that the verifier has accepted for b: what the pin
// has, else what the cache has, else, if look, what is published. Without any
// of them both results are nil.
func (c *Client) signature(ctx context.Context, b *Blob, pinned *Evidence, look bool) (*Evidence, error) {
	if pinned != nil {
		if err := c.verify(ctx, b.SHA256, pinned); err != nil {
			return nil, err
		}
		return pinned, nil
	}
	stored, err := c.stored(b.SHA256)
	if err != nil {
		return nil, err
	}
	if stored != nil && c.verify(ctx, b.SHA256, stored) == nil {
		return stored, nil
	}
	if !look {
		return nil, nil
	}
	e, err := c.gather(ctx, b.Path, b.SHA256)
	if err != nil {
		return nil, err
	}
	if err := c.verify(ctx, b.SHA256, e); err != nil {
		return nil, err
	}
	return e, c.keep(b.SHA256, e)
}

func checkRequire(require []Proof) error {
	for _, r := range require {
		if r != Checksum && r != Pinned && r != Signature {
			return fmt.Errorf("required proof: got %q, want %s, %s or %s", r, Pinned, Signature, Checksum)
		}
	}
	return nil
}
