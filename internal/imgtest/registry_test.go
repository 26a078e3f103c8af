package imgtest_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/imgctl/imgctl/internal/imgtest"
)

func ask(t *testing.T, method, url string) (status int, body string, err error) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Close = true // or the client would repeat it on a connection that was cut
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(b), err
}

func TestRegistryDoesWhatItsScriptSays(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{Addr: "127.0.0.3:0"})
	url := "http://" + reg.Host() + "/v2/"
	wait := make(chan struct{})
	close(wait)
	did := false
	for name, tt := range map[string]struct {
		fault  imgtest.Fault
		status int // 0: no whole answer
		body   string
	}{
		"status":         {imgtest.Fault{Status: 418, Body: "tea"}, 418, "tea"},
		"edit":           {imgtest.Fault{Edit: func(a *imgtest.Answer) { a.Body = []byte("edited") }}, 200, "edited"},
		"drop":           {imgtest.Fault{Drop: true}, 0, ""},
		"lose":           {imgtest.Fault{Lose: true}, 0, ""},
		"cut":            {imgtest.Fault{Cut: 1}, 0, ""},
		"wait":           {imgtest.Fault{Wait: wait, Do: func() { did = true }}, 200, "{}"},
		"other method":   {imgtest.Fault{Method: "PUT", Status: 500}, 200, "{}"},
		"other path":     {imgtest.Fault{Path: "/blobs/", Status: 500}, 200, "{}"},
		"other end":      {imgtest.Fault{Path: "/v2$", Status: 500}, 200, "{}"},
		"its end":        {imgtest.Fault{Path: "2/$", Status: 500, Body: "end"}, 500, "end"},
		"not yet":        {imgtest.Fault{Skip: 1, Status: 500}, 200, "{}"},
		"nothing at all": {imgtest.Fault{}, 200, "{}"},
	} {
		reg.Heal()
		reg.On(tt.fault)
		status, body, err := ask(t, "GET", url)
		if tt.status == 0 && err == nil || tt.status != 0 && (status != tt.status || body != tt.body) {
			t.Errorf("%s: got %d %q, %v; want %d %q", name, status, body, err, tt.status, tt.body)
		}
	}
	if !did {
		t.Error("Do was not called")
	}
}

func TestFaultHappensAsOftenAsItSays(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	reg.On(imgtest.Fault{Skip: 1, Times: 2, Status: 503})
	var got []int
	for range 5 {
		status, _, err := ask(t, "GET", "http://"+reg.Host()+"/v2/")
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, status)
	}
	if fmt.Sprint(got) != "[200 503 503 200 200]" {
		t.Errorf("got %v", got)
	}
	if log := reg.Requests(); len(log) != 5 || log[1].String() != "GET /v2/ 503" || len(reg.Writes()) != 0 {
		t.Errorf("log: got %v", log)
	}
	ask(t, "POST", "http://"+reg.Host()+"/v2/a/blobs/uploads/")
	if w := reg.Writes(); len(w) != 1 || w[0].Status != 202 {
		t.Errorf("writes: got %v", w)
	}
}

func TestRegistryWithoutReferrersSaysSo(t *testing.T) {
	path := "/v2/a/referrers/sha256:" + strings.Repeat("a", 64)
	for none, want := range map[bool]int{true: 404, false: 200} {
		reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{NoReferrers: none})
		if status, _, err := ask(t, "GET", "http://"+reg.Host()+path); err != nil || status != want {
			t.Errorf("NoReferrers %v: got %d, %v; want %d", none, status, err, want)
		}
	}
}

func TestLinkIsAsSlowAsItSays(t *testing.T) {
	reg := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
	reg.On(imgtest.Fault{Status: 200, Body: strings.Repeat("x", 125_000)}) // 1 Mbit
	link, err := imgtest.NewLink("127.0.0.1:0", reg.Host(), 5*time.Millisecond, 10_000_000)
	if err != nil {
		t.Fatal(err)
	}
	defer link.Close()
	start := time.Now()
	_, body, err := ask(t, "GET", "http://"+link.Host()+"/v2/")
	if err != nil || len(body) != 125_000 {
		t.Fatalf("got %d bytes, %v", len(body), err)
	}
	// 100 ms for the megabit, two round trips of 10 ms.
	if took := time.Since(start); took < 120*time.Millisecond {
		t.Errorf("took %v, want at least 120 ms", took)
	}
}
