package oci

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The answers of a [Finding].
const (
	Yes     = "yes"     // seen
	No      = "no"      // seen
	Unknown = "unknown" // it was not tried, or nobody could say
)

// Finding is one thing that a registry can do or not.
type Finding struct {
	What   string `json:"what"`   // "referrers", "mount", …
	Answer string `json:"answer"` // yes, no or unknown
	Detail string `json:"detail"` // how that is known
}

// Examination is what [Client.Examine] found out about a repository.
type Examination struct {
	Repository     string            `json:"repository"`
	Authentication string            `json:"authentication"` // none, Basic or Bearer, and as whom
	TLS            string            `json:"tls"`            // "none": plain HTTP
	ClockSkew      time.Duration     `json:"clockSkewNanoseconds"`
	RateLimit      map[string]string `json:"rateLimit,omitempty"` // the ratelimit-* headers as they came
	Findings       []Finding         `json:"findings"`
	Left           []string          `json:"left,omitempty"` // what a try to write could not remove
	Err            error             `json:"-"`              // why it cannot be used
}

// Examine asks a repository of a registry what it can do. Without write it
// changes nothing, and says where that leaves it with a claim of the registry.
// With write it puts a small image, tags and refers to it, and removes all of
// it again. It never lists tags.
func (c *Client) Examine(ctx context.Context, repository string, write bool) Examination {
	e := Examination{Repository: repository, TLS: "none"}
	repo, err := c.Repository(repository)
	if err != nil {
		e.Err = err
		return e
	}
	e.Repository = repo.name
	g, ok := repo.back.(*registry)
	if !ok {
		e.Err = fmt.Errorf("examine %s: want a repository of a registry: a directory does what this program does", repo)
		return e
	}
	x := &examiner{Examination: &e, client: c, repo: repo, registry: g}
	if e.Err = x.reach(ctx); e.Err != nil {
		return e
	}
	if write {
		e.Err = x.tryWriting(ctx)
		return e
	}
	x.lookReferrers(ctx)
	for _, what := range []string{"mount", "delete", "immutable tags", "artifacts", "indexes", "Docker manifests"} {
		x.found(what, Unknown, "only a try tells")
	}
	return e
}

// examiner is an examination under way.
type examiner struct {
	*Examination
	client   *Client
	repo     *Repository
	registry *registry
}

func (x *examiner) found(what, answer, format string, args ...any) {
	x.Findings = append(x.Findings, Finding{what, answer, sanitize(fmt.Sprintf(format, args...))})
}

// nobody is a digest that no manifest has.
var nobody = digestOf([]byte("imgctl doctor: nothing has this digest"))

// reach makes the first two requests: who is there, and does it know us?
func (x *examiner) reach(ctx context.Context) error {
	g := x.registry
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.url().Scheme+"://"+g.place()+"/v2/", nil)
	if err != nil {
		return err
	}
	resp, err := g.wire.RoundTrip(req)
	if err != nil {
		return networkError(ctx, "ask", x.repo.name, err)
	}
	drain(resp.Body)
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusUnauthorized {
		return answerError("ask", x.repo.name, resp)
	}
	x.Authentication = x.account(ctx, resp)
	x.TLS = tlsText(resp.TLS)
	x.clock(resp)
	if req, err = http.NewRequest(http.MethodHead, g.url("manifests", nobody.String()).String(), nil); err != nil {
		return err
	}
	acceptManifests(req.Header)
	if resp, err = g.do(ctx, "look up manifest", g.object(nobody.String()), req); err != nil {
		return err
	}
	x.limits(resp)
	if resp.StatusCode != http.StatusNotFound && resp.StatusCode != http.StatusOK {
		return answerError("read", x.repo.name, resp)
	}
	resp.Body.Close()
	return nil
}

// account says how the registry wants to know who asks, and who that is.
func (x *examiner) account(ctx context.Context, resp *http.Response) string {
	scheme, _, _ := strings.Cut(resp.Header.Get("WWW-Authenticate"), " ")
	if resp.StatusCode == http.StatusOK || scheme == "" {
		return "none"
	}
	who := "anonymous"
	if account, err := x.registry.auth.find(ctx); err == nil && account != (authn.AuthConfig{}) {
		who = "with a token"
		if account.Username != "" {
			who = "as " + account.Username
		}
	}
	return sanitize(scheme) + " " + who
}

// tlsText names the protocol, and when the certificate ends.
func tlsText(s *tls.ConnectionState) string {
	if s == nil || len(s.PeerCertificates) == 0 {
		return "none"
	}
	return tls.VersionName(s.Version) + ", certificate until " + s.PeerCertificates[0].NotAfter.UTC().Format(time.DateOnly)
}

// clock compares the registry's clock with ours.
func (x *examiner) clock(resp *http.Response) {
	at, err := http.ParseTime(resp.Header.Get("Date"))
	if err != nil {
		x.found("clock", Unknown, "no Date header")
		return
	}
	now := time.Now
	if x.client.Retry.Now != nil {
		now = x.client.Retry.Now
	}
	x.ClockSkew = at.Sub(now()).Truncate(time.Second)
	if x.ClockSkew.Abs() > time.Minute {
		x.found("clock", No, "it differs from ours by %s", x.ClockSkew)
		return
	}
	x.found("clock", Yes, "it is ours, to a minute")
}

// limits keeps what an answer says of how much may still be asked.
func (x *examiner) limits(resp *http.Response) {
	for _, k := range []string{"Ratelimit-Limit", "Ratelimit-Remaining", "Ratelimit-Reset", "X-Ratelimit-Limit", "X-Ratelimit-Remaining", "Retry-After"} {
		if v := resp.Header.Get(k); v != "" {
			if x.RateLimit == nil {
				x.RateLimit = make(map[string]string)
			}
			x.RateLimit[strings.ToLower(k)] = clip(sanitize(v))
		}
	}
}

// lookReferrers asks for the referrers of nothing. A list is a claim: some
// registries answer so without ever listing anything.
func (x *examiner) lookReferrers(ctx context.Context) {
	_, api, err := x.registry.referrers(ctx, nobody)
	switch {
	case err != nil:
		x.found("referrers", Unknown, "%v", err)
	case api == apiLists:
		x.found("referrers", Unknown, "it answers with a list; whether it lists what is put only a try tells")
	default:
		x.found("referrers", Unknown, "no list for what is not there; whether there is one for what is only a try tells")
	}
}

// contains reports whether the list has the digest, after pauses if need be.
func (x *examiner) contains(ctx context.Context, subject, h v1.Hash) (listed, api bool, err error) {
	for try := range listTries {
		if try > 0 {
			if err := x.registry.pause(ctx, settling<<try); err != nil {
				return false, api, err
			}
		}
		list, answer, err := x.registry.referrers(ctx, subject)
		if err != nil || answer != apiLists {
			return false, false, err
		}
		if api = true; slices.ContainsFunc(list, func(d v1.Descriptor) bool { return d.Digest == h }) {
			return true, true, nil
		}
	}
	return false, api, nil
}
