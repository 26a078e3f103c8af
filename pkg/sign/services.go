package sign

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/sigstore/sigstore-go/pkg/root"
)

// Services are the parts of a Sigstore that a signer talks to. Addresses begin
// with https://; only this machine is spoken to without TLS.
type Services struct {
	Fulcio     string   // certificate authority
	Logs       []Log    // transparency logs: each receives every signature
	Timestamps []string // authorities for RFC 3161 timestamps, with the whole path

	HTTP *http.Client                                           // its transport is used; nil: Go's own
	Now  func() time.Time                                       // nil: the machine's clock
	Wait func(ctx context.Context, d time.Duration) (err error) // between two tries; nil: a timer
}

// Log is a transparency log.
type Log struct {
	URL     string
	Version int // of Rekor's API: 1 or 2; a log of version 2 needs a timestamp beside it
}

// PublicGood is the Sigstore that the OpenSSF runs for everybody. Its log is that
// of version 1, whose promises the older layout of signatures can carry.
func PublicGood() Services {
	return Services{Fulcio: "https://fulcio.sigstore.dev", Logs: []Log{{"https://rekor.sigstore.dev", 1}}}
}

// ParseSigningConfig reads the signing_config.json of cosign 3 (version 0.2) and
// chooses from it the services that count at the time.
func ParseSigningConfig(data []byte, now time.Time) (Services, error) {
	config, err := root.NewSigningConfigFromJSON(data)
	if err != nil {
		return Services{}, fmt.Errorf("signing config: %s", printable(err.Error()))
	}
	fulcio, err := root.SelectService(config.FulcioCertificateAuthorityURLs(), []uint32{1}, now)
	if err != nil {
		return Services{}, fmt.Errorf("signing config: certificate authority: %w", err)
	}
	s := Services{Fulcio: fulcio.URL}
	if urls := config.RekorLogURLs(); len(urls) > 0 {
		logs, err := root.SelectServices(urls, config.RekorLogURLsConfig(), []uint32{1, 2}, now)
		if err != nil {
			return Services{}, fmt.Errorf("signing config: transparency log: %w", err)
		}
		for _, l := range logs {
			s.Logs = append(s.Logs, Log{l.URL, int(l.MajorAPIVersion)})
		}
	}
	if urls := config.TimestampAuthorityURLs(); len(urls) > 0 {
		authorities, err := root.SelectServices(urls, config.TimestampAuthorityURLsConfig(), []uint32{1}, now)
		if err != nil {
			return Services{}, fmt.Errorf("signing config: timestamp authority: %w", err)
		}
		for _, t := range authorities {
			s.Timestamps = append(s.Timestamps, t.URL)
		}
	}
	return s, s.Check()
}

// Check returns what is wrong with the addresses, before anything is asked.
func (s *Services) Check() error {
	addresses := append([]string{}, s.Timestamps...)
	if s.Fulcio != "" {
		addresses = append(addresses, s.Fulcio)
	}
	for _, l := range s.Logs {
		addresses = append(addresses, l.URL)
		if l.Version != 1 && l.Version != 2 {
			return fmt.Errorf("transparency log %s: got version %d, want 1 or 2", l.URL, l.Version)
		}
		if l.Version == 2 && len(s.Timestamps) == 0 {
			return fmt.Errorf("transparency log %s: one of version 2 proves no time, want a timestamp authority beside it", l.URL)
		}
	}
	for _, a := range addresses {
		if err := checkEndpoint(a); err != nil {
			return err
		}
	}
	return nil
}

// checkEndpoint refuses an address to which a token would go in clear.
func checkEndpoint(address string) error {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.User != nil {
		return errors.New("address of a service: want https://host/path")
	}
	ip, err := netip.ParseAddr(u.Hostname())
	local := u.Hostname() == "localhost" || err == nil && ip.Unmap().IsLoopback()
	if u.Scheme != "https" && !(u.Scheme == "http" && local) {
		return fmt.Errorf("address of a service: got %s://%s, want https", u.Scheme, u.Host)
	}
	return nil
}

func (s *Services) now() time.Time {
	if s.Now == nil {
		return time.Now()
	}
	return s.Now()
}

// wait pauses for d, or for as long as ctx lasts.
func (s *Services) wait(ctx context.Context, d time.Duration) error {
	if s.Wait != nil {
		return s.Wait(ctx, d)
	}
	t := time.NewTimer(cmp.Or(d, time.Millisecond))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
