package flags

import (
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/semver"
)

// version is what of a version of Kubernetes matters here.
type version struct{ major, minor int }

// parseVersion reads "v1.36.2" or "v1.36".
func parseVersion(s string) (version, error) {
	if !semver.IsValid(s) {
		return version{}, fmt.Errorf("version: got %.100q, want one such as v1.36.2", s)
	}
	major, minor, _ := strings.Cut(semver.MajorMinor(s)[1:], ".")
	a, errA := strconv.Atoi(major)
	b, errB := strconv.Atoi(minor)
	if errA != nil || errB != nil {
		return version{}, fmt.Errorf("version: got %.100q, want one such as v1.36.2", s)
	}
	return version{a, b}, nil
}

func (v version) minorName() string { return fmt.Sprintf("v%d.%d", v.major, v.minor) }

// compareMinors orders "v1.9" before "v1.10".
func compareMinors(a, b string) int { return semver.Compare(a, b) }

// skews says how many minors a component may be older, and newer, than the API
// servers (Kubernetes, "Version Skew Policy").
var skews = map[string]struct{ older, newer int }{
	"kubelet":                  {3, 0},
	"kube-proxy":               {3, 0},
	"kube-controller-manager":  {1, 0},
	"kube-scheduler":           {1, 0},
	"cloud-controller-manager": {1, 0},
	"kubectl":                  {1, 1},
}

// Skew reports why a component of one version does not work with API servers of
// another, by the version skew policy of Kubernetes (CATALOGUE K14).
func Skew(component, componentVersion, apiserver string) error {
	allowed, ok := skews[component]
	if !ok {
		return fmt.Errorf("%s: the version skew policy does not name it", component)
	}
	c, err := parseVersion(componentVersion)
	if err != nil {
		return fmt.Errorf("%s: %w", component, err)
	}
	a, err := parseVersion(apiserver)
	if err != nil {
		return fmt.Errorf("kube-apiserver: %w", err)
	}
	older := a.minor - c.minor
	switch {
	case c.major != a.major:
		return fmt.Errorf("%s %s: got kube-apiserver %s, want one of the same major version", component, componentVersion, apiserver)
	case -older > allowed.newer:
		return fmt.Errorf("%s %s: %s newer than kube-apiserver %s, want at most %d", component, componentVersion, minors(-older), apiserver, allowed.newer)
	case older > allowed.older:
		return fmt.Errorf("%s %s: %s older than kube-apiserver %s, want at most %d", component, componentVersion, minors(older), apiserver, allowed.older)
	}
	return nil
}

func minors(n int) string {
	if n == 1 {
		return "1 minor"
	}
	return fmt.Sprintf("%d minors", n)
}
