package upstream

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"golang.org/x/mod/semver"
)

// maxChannel is the most bytes that a channel file may have; real ones have 7.
const maxChannel = 64

var (
	versionRE = regexp.MustCompile(`^v(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})\.(0|[1-9][0-9]{0,5})(-(alpha|beta|rc)\.(0|[1-9][0-9]{0,5}))?$`)
	channelRE = regexp.MustCompile(`^(stable|latest)(-[0-9]{1,4}(\.[0-9]{1,4})?)?$`)
)

// Older says that a channel went back, which Kubernetes' never do: a mirror is
// stale, or somebody wants an old version with known holes installed.
type Older struct {
	Channel string
	Got     string
	Seen    string // the newest that the cache remembers
}

// Error is one line.
func (e *Older) Error() string {
	return fmt.Sprintf("channel %s: got %s, older than %s, which it named before (to use it, name the version itself)", e.Channel, e.Got, e.Seen)
}

// Resolve turns a channel, such as "stable" or "stable-1.36", into the version
// that it names now. A version is returned as it is. The cache remembers the
// newest answer of each channel; an older one is an [*Older].
func (c *Client) Resolve(ctx context.Context, channel string) (string, error) {
	if versionRE.MatchString(channel) {
		return channel, nil
	}
	if !channelRE.MatchString(channel) {
		return "", fmt.Errorf("version: got %q, want one such as v1.36.2, or a channel such as stable or stable-1.36", channel)
	}
	data, err := c.read(ctx, "release/"+channel+".txt", maxChannel)
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", channel, err)
	}
	version, err := parseChannel(channel, data)
	if err != nil {
		return "", fmt.Errorf("resolve %s: %w", channel, err)
	}
	return version, c.remember(channel, version)
}

// parseChannel reads a channel file: one strict version, and a line end at most.
// It must be one that the channel can name: stable-1.36 is a v1.36 without suffix.
func parseChannel(channel string, data []byte) (string, error) {
	v := strings.TrimSuffix(strings.TrimSuffix(string(data), "\n"), "\r")
	if !versionRE.MatchString(v) {
		return "", fmt.Errorf("got %.80q, want a version such as v1.36.2", v)
	}
	kind, line, _ := strings.Cut(channel, "-")
	if line != "" && !strings.HasPrefix(v, "v"+line+".") {
		return "", fmt.Errorf("got %s, want a v%s", v, line)
	}
	if kind == "stable" && semver.Prerelease(v) != "" {
		return "", fmt.Errorf("got the pre-release %s, want a release", v)
	}
	return v, nil
}

// remember compares a channel's version with the newest one seen and keeps it
// if it is newer. Processes that run at once may overwrite each other's note,
// with an answer that was as good a moment before.
func (c *Client) remember(channel, version string) error {
	path := filepath.Join(c.Download.Dir(), "channel", channel)
	if old, err := os.ReadFile(path); err == nil {
		seen := strings.TrimSpace(string(old))
		switch {
		case !versionRE.MatchString(seen): // not ours, or damaged
		case semver.Compare(version, seen) < 0:
			return &Older{channel, version, seen}
		case version == seen:
			return nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, 0o644, []byte(version+"\n"))
}
