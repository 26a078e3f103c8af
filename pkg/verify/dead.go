package verify

import (
	"fmt"
	"strings"
	"sync"

	"github.com/imgctl/imgctl/pkg/oci"
)

// graveyard remembers for the life of a [Verifier] which hosts could not be asked,
// so that each costs its time once, however many references there are.
type graveyard struct {
	mu    sync.Mutex
	hosts map[string]error
}

// why returns why the source is not asked, nil when it is.
func (g *graveyard) why(source *oci.Repository) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.hosts[hostOf(source)]; err != nil {
		return fmt.Errorf("%s: not asked again after: %w", source, err)
	}
	return nil
}

// remember buries the source's host if what happened would happen to any question.
func (g *graveyard) remember(source *oci.Repository, err error) {
	switch oci.OutageOf(err) {
	case oci.OutageDNS, oci.OutageRefused, oci.OutageBlackHole, oci.OutageTLS, oci.OutageStall, oci.OutageServer:
	default:
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hosts == nil {
		g.hosts = make(map[string]error)
	}
	g.hosts[hostOf(source)] = err
}

// hostOf returns what repositories of one registry share.
func hostOf(source *oci.Repository) string {
	name := source.String()
	if strings.HasPrefix(name, "oci:") {
		return name
	}
	host, _, _ := strings.Cut(name, "/")
	return host
}
