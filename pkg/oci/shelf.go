package oci

import (
	"context"
	"net/http"
	"net/url"
	"sync"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// shelf remembers, for each registry that a client talks to, which repository
// has a blob or is about to get it: others of that registry can have it from
// there ("cross-repository mount"), and two deliveries to one repository do not
// both send it.
type shelf struct {
	mu      sync.Mutex
	places  map[spot]*slot
	refused map[[2]string]bool // from and to: what a registry did not do once it is not asked again
}

type spot struct {
	where  string // registry or directory
	digest v1.Hash
}

// slot is where a blob is, or will be.
type slot struct {
	repo  *Repository
	ended chan struct{} // closed when it is there, or will not be
	ok    bool          // it is there; written before ended is closed
}

// done says how bringing it ended.
func (p *slot) done(ok bool) {
	p.ok = ok
	close(p.ended)
}

func (p *slot) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// note says that repo has the blob.
func (s *shelf) note(repo *Repository, h v1.Hash) {
	if p, first := s.claim(repo, h); first {
		p.done(true)
	}
}

// claim returns where to find the blob. first is true for who has to bring it,
// and to call done: nobody else does, or who did has failed, or it is said to
// be just where it was found to be missing.
func (s *shelf) claim(repo *Repository, h v1.Hash) (p *slot, first bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := spot{repo.back.place(), h}
	if p := s.places[at]; p != nil {
		if ended := p.hasEnded(); !ended || p.ok && p.repo.name != repo.name {
			return p, false
		}
	}
	if s.places == nil {
		s.places, s.refused = make(map[spot]*slot), make(map[[2]string]bool)
	}
	p = &slot{repo: repo, ended: make(chan struct{})}
	s.places[at] = p
	return p, true
}

// mayAsk reports whether the registry may still be asked to mount between two repositories.
func (s *shelf) mayAsk(from, to string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.refused[[2]string{from, to}]
}

func (s *shelf) refuse(from, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[[2]string{from, to}] = true
}

// take waits for somebody else who brings the blob, and has it mounted if that
// was to another repository. false: it has to be sent.
func (d *delivery) take(ctx context.Context, b source, p *slot) (bool, error) {
	select {
	case <-p.ended:
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
	if !p.ok || p.repo.name == d.repo.name || !d.client.shelf.mayAsk(p.repo.name, d.repo.name) {
		return p.ok && p.repo.name == d.repo.name, nil
	}
	mounted, err := d.repo.back.mountBlob(ctx, b.desc, p.repo.back)
	if err != nil || !mounted { // whatever the reason, sending it helps
		d.client.shelf.refuse(p.repo.name, d.repo.name)
		d.client.log().Debug("not mounted", "repo", d.repo.name, "from", p.repo.name, "digest", b.desc.Digest, "err", err)
		return false, nil
	}
	d.mu.Lock()
	d.receipt.Mounted++
	d.mu.Unlock()
	d.client.log().Info("mounted", "repo", d.repo.name, "from", p.repo.name, "digest", b.desc.Digest)
	return true, nil
}

// mountBlob implements [backend]: distribution-spec, "Mounting a blob from
// another repository". A registry that does not do it answers with an upload
// session (202) or an error. One that says it did is asked for the blob.
//
// It is not tried between repositories of two accounts: neither may read what
// the other has.
func (g *registry) mountBlob(ctx context.Context, d v1.Descriptor, from backend) (bool, error) {
	const op = "mount blob in"
	src, ok := from.(*registry)
	if !ok || src.place() != g.place() || !g.sameAccount(ctx, src) {
		return false, nil
	}
	at := g.url("blobs", "uploads", "")
	at.RawQuery = url.Values{"mount": {d.Digest.String()}, "from": {src.repo.RepositoryStr()}}.Encode()
	req, err := http.NewRequest(http.MethodPost, at.String(), nil)
	if err != nil {
		return false, err
	}
	resp, err := g.do(ctx, op, g.object(d.Digest.String()), req)
	if err != nil {
		return false, err
	}
	if resp.StatusCode != http.StatusAccepted && resp.StatusCode != http.StatusCreated {
		return false, answerError(op, g.object(d.Digest.String()), resp)
	}
	drain(resp.Body)
	if got := resp.Header.Get("Docker-Content-Digest"); resp.StatusCode != http.StatusCreated || got != "" && got != d.Digest.String() {
		return false, nil
	}
	return g.hasBlob(ctx, d)
}

// sameAccount reports whether both repositories are asked with the same credentials.
func (g *registry) sameAccount(ctx context.Context, other *registry) bool {
	ours, err := g.auth.find(ctx)
	if err != nil {
		return false
	}
	theirs, err := other.auth.find(ctx)
	return err == nil && ours == theirs
}
