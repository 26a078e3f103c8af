//go:build e2e && measure

package e2e

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/internal/peers"
)

// TestPublishTimes measures publishing to two registries; its table is in
// docs/publishing.md. imgctl brings image, signatures and attestations, reads all
// back and verifies it; the others bring what they can, one registry after the
// other, since none of them knows two.
func TestPublishTimes(t *testing.T) {
	runs, _ := strconv.Atoi(os.Getenv("IMGCTL_PUBLISH_RUNS"))
	if runs <= 0 {
		t.Skip("a measurement of minutes: set IMGCTL_PUBLISH_RUNS to the number of runs")
	}
	image := layoutOf(t, cmp.Or(os.Getenv("IMGCTL_PUBLISH_VARIANT"), "slim"))
	for _, l := range []struct {
		name  string
		hosts []string
	}{
		{"loopback", []string{shared.Registries[0].Addr, shared.Registries[1].Addr}},
		{"20 ms, 400 Mbit/s", []string{slow(t, 0), slow(t, 1)}},
	} {
		took := map[string][]time.Duration{}
		memory := map[string]int64{}
		publishers := publishersOf(image)
		for run := range runs {
			for i := range publishers {
				p := publishers[(i+run)%len(publishers)]
				d, rss := p.publish(t, l.hosts, fmt.Sprintf("%s-%d-%s", strings.Fields(l.name)[0][:2], run, strings.Fields(p.name)[0]))
				took[p.name] = append(took[p.name], d)
				memory[p.name] = max(memory[p.name], rss)
			}
		}
		for _, p := range publishers {
			slices.Sort(took[p.name])
			t.Logf("| %s | %s | %.2f (%.2f to %.2f) s | %d MiB |", l.name, p.name, took[p.name][runs/2].Seconds(),
				took[p.name][0].Seconds(), took[p.name][runs-1].Seconds(), memory[p.name]>>10)
		}
	}
}

// slow is a line to the nth registry of 20 ms each way and 400 Mbit/s.
func slow(t *testing.T, n int) string {
	t.Helper()
	l, err := imgtest.NewLink(fmt.Sprintf("127.0.0.%d:0", 11+n), shared.Registries[n].Addr, 20*time.Millisecond, 400_000_000)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Host()
}

// publisher is a program, and the commands that bring the image to repositories.
type publisher struct {
	name     string
	commands func(t *testing.T, repos []string) []*exec.Cmd
}

// publish runs the commands one after the other. It returns how long they took
// and the most memory that one of them had, in KiB.
func (p publisher) publish(t *testing.T, hosts []string, prefix string) (took time.Duration, rss int64) {
	t.Helper()
	var repos []string
	for _, h := range hosts {
		repos = append(repos, h+"/"+prefix+"/kubelet")
	}
	for _, cmd := range p.commands(t, repos) {
		d, peak := measured(t, cmd)
		took, rss = took+d, max(rss, peak)
	}
	return took, rss
}

func publishersOf(image string) []publisher {
	dir, tag, _ := strings.Cut(image, ":")
	each := func(command func(t *testing.T, repo string) []string) func(*testing.T, []string) []*exec.Cmd {
		return func(t *testing.T, repos []string) (all []*exec.Cmd) {
			for _, repo := range repos {
				args := command(t, repo)
				all = append(all, exec.Command(args[0], args[1:]...))
			}
			return all
		}
	}
	return []publisher{
		{"imgctl sync", func(t *testing.T, repos []string) []*exec.Cmd {
			args := append([]string{"sync", "oci:" + image}, repos...)
			return []*exec.Cmd{shared.Command(context.Background(), append(args, "--key", "release.pub")...)}
		}},
		{"crane push", each(func(t *testing.T, repo string) []string {
			return []string{program(t, peers.Crane()), "--insecure", "push", "--index", dir, repo + ":" + tag}
		})},
		{"oras cp -r", each(func(t *testing.T, repo string) []string {
			return []string{program(t, peers.Oras(root(t))), "cp", "-r", "--from-oci-layout", image, "--to-plain-http", repo + ":" + tag}
		})},
		{"regctl image copy", each(func(t *testing.T, repo string) []string {
			host, _, _ := strings.Cut(repo, "/")
			return []string{program(t, peers.Regctl()), "image", "copy", "--host", "reg=" + host + ",tls=disabled", "--referrers", "--digest-tags", "ocidir://" + image, repo + ":" + tag}
		})},
		{"skopeo copy --all", each(func(t *testing.T, repo string) []string {
			return []string{"unshare", "-m", "sh", "-c", `mount -t tmpfs tmpfs /var/lib/containers/cache && exec "$@"`, "sh", // it would remember the last run's blobs
				"skopeo", "copy", "-q", "--all", "--preserve-digests", "--dest-tls-verify=false", "oci:" + image, "docker://" + repo + ":" + tag}
		})},
	}
}

func root(t *testing.T) string {
	t.Helper()
	dir, err := peers.Root()
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
