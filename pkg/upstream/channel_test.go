package upstream_test

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/download"
	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/upstream"
)

func TestResolve(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	for _, channel := range []string{"stable", "stable-1.36", "latest", "v1.36.2"} {
		if got, err := w.client.Resolve(t.Context(), channel); err != nil || got != version {
			t.Errorf("%s: got %q, %v; want %s", channel, got, err, version)
		}
	}
	w.Requests()
	for _, channel := range []string{"v1.2.3-rc.0", "v1.0.0-alpha.10"} {
		if got, err := w.client.Resolve(t.Context(), channel); err != nil || got != channel {
			t.Errorf("%s: got %q, %v", channel, got, err)
		}
	}
	for _, channel := range []string{"", "1.36.2", "v1.36", "v01.36.2", "v1.36.2+x", "v1.36.2-x", "edge", "stable-", "stable-1.36.2", "../stable", "stable/../x"} {
		if got, err := w.client.Resolve(t.Context(), channel); err == nil {
			t.Errorf("%q: got %q, want an error", channel, got)
		}
	}
	if r := w.Requests(); len(r) > 0 {
		t.Errorf("asked for %v", r)
	}
	if _, err := w.client.Resolve(t.Context(), "stable-1.99"); !download.NotFound(err) {
		t.Errorf("got %v, want not found", err)
	}
}

// U20
func TestAChannelFileIsOneStrictVersion(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	for name, tt := range map[string]struct{ channel, body, want string }{
		"path":                  {"stable", "../../x", "got \"../../x\""},
		"endless":               {"stable", strings.Repeat("v1.36.2\n", 1<<16), "more than 64 bytes"},
		"page":                  {"stable", "<html><body>sign in</body></html>", "page"},
		"empty":                 {"stable", "", "got \"\""},
		"two lines":             {"stable", "v1.36.2\nv1.36.3\n", "want a version"},
		"white space":           {"stable", " v1.36.2", "want a version"},
		"no v":                  {"stable", "1.36.2", "want a version"},
		"leading zero":          {"stable", "v1.036.2", "want a version"},
		"build metadata":        {"stable", "v1.36.2+evil", "want a version"},
		"pre-release":           {"stable", "v1.37.0-rc.0", "pre-release"},
		"another line":          {"stable-1.36", "v1.35.9", "want a v1.36"},
		"line with more digits": {"stable-1.3", "v1.36.2", "want a v1.3"},
	} {
		t.Run(name, func(t *testing.T) {
			w.Replace("release/"+tt.channel+".txt", []byte(tt.body))
			got, err := w.newClient(t).Resolve(t.Context(), tt.channel)
			if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %q, %v; want one line with %q", got, err, tt.want)
			}
		})
	}
	for _, body := range []string{"v1.36.2", "v1.36.2\n", "v1.36.2\r\n"} {
		w.Replace("release/stable.txt", []byte(body))
		if got, err := w.newClient(t).Resolve(t.Context(), "stable"); err != nil || got != version {
			t.Errorf("%q: got %q, %v", body, got, err)
		}
	}
	w.Replace("release/latest.txt", []byte("v1.37.0-beta.1"))
	if got, err := w.client.Resolve(t.Context(), "latest"); err != nil || got != "v1.37.0-beta.1" {
		t.Errorf("latest: got %q, %v", got, err)
	}
}

// U20: a stale or malicious mirror cannot take a channel back.
func TestAChannelDoesNotGoBack(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	for _, v := range []string{"v1.36.2", "v1.36.2", "v1.36.10"} {
		w.Replace("release/stable-1.36.txt", []byte(v))
		if got, err := w.client.Resolve(t.Context(), "stable-1.36"); err != nil || got != v {
			t.Fatalf("%s: got %q, %v", v, got, err)
		}
	}
	w.Replace("release/stable-1.36.txt", []byte("v1.36.9"))
	_, err := w.client.Resolve(t.Context(), "stable-1.36")
	var older *upstream.Older
	if !errors.As(err, &older) || older.Got != "v1.36.9" || older.Seen != "v1.36.10" {
		t.Errorf("got %v, want it refused with both versions", err)
	}
	if got, err := w.client.Resolve(t.Context(), "v1.36.9"); err != nil || got != "v1.36.9" {
		t.Errorf("by its name: got %q, %v", got, err)
	}
}

func TestAnUnreachableChannelIsNotAnAbsentOne(t *testing.T) {
	w := publish(t, imgtest.Signing{})
	w.Status("release/stable.txt", http.StatusBadGateway)
	if _, err := w.client.Resolve(t.Context(), "stable"); !download.Unreachable(err) || download.NotFound(err) {
		t.Errorf("got %v", err)
	}
}
