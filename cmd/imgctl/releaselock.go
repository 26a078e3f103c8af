package main

import (
	"bytes"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/strict"
)

// The states of a destination in release.lock.json.
const (
	stateReleased = "released" // the bytes are there, verified, and the tags point at them
	stateLagging  = "lagging"  // a best-effort destination that is not done
)

// releaseLock is release.lock.json: what a release made, under which tags, where.
type releaseLock struct {
	strict.Header
	Artifacts []lockedArtifact `json:"artifacts"` // the images first, then the bundles
}

type lockedArtifact struct {
	Name         string              `json:"name"`
	Version      string              `json:"version"`
	Variant      string              `json:"variant,omitempty"`
	Digest       string              `json:"digest"`
	Tags         []string            `json:"tags"`
	Platforms    []lockedPlatform    `json:"platforms,omitempty"`
	Destinations []lockedDestination `json:"destinations"`
}

type lockedPlatform struct {
	Platform string   `json:"platform"`
	Digest   string   `json:"digest"`
	Tags     []string `json:"tags"`
}

type lockedDestination struct {
	Repository string `json:"repository"`
	State      string `json:"state"`
}

func newReleaseLock(products []*product) *releaseLock {
	l := &releaseLock{Header: header("ReleaseLock")}
	for _, pr := range products {
		a := lockedArtifact{Name: pr.name, Version: pr.version, Variant: pr.target.Variant, Digest: pr.digest.String(), Tags: pr.tags[pr.digest]}
		for _, platform := range sortedKeys(pr.platforms) {
			h := pr.platforms[platform]
			a.Platforms = append(a.Platforms, lockedPlatform{platform, h.String(), pr.tags[h]})
		}
		for _, rc := range pr.receipts {
			d := lockedDestination{Repository: rc.Repository, State: stateReleased}
			if rc.Err != nil {
				d.State = stateLagging
			}
			a.Destinations = append(a.Destinations, d)
		}
		l.Artifacts = append(l.Artifacts, a)
	}
	return l
}

func (l *releaseLock) save(path string) error {
	var b bytes.Buffer
	if err := printJSON(&b, l); err != nil {
		return err
	}
	return atomicfile.WriteBytes(path, 0o644, b.Bytes())
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// sortedValues returns the digests of platforms in the platforms' order.
func sortedValues(m map[string]v1.Hash) []v1.Hash {
	var out []v1.Hash
	for _, k := range sortedKeys(m) {
		out = append(out, m[k])
	}
	return out
}
