package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/atomicfile"
	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/oci"
)

// The states of a destination in release.lock.json.
const (
	statePending  = "pending"  // the release stands, the tags are about to move
	stateReleased = "released" // the bytes are there, verified, and the tags point at them
	stateLagging  = "lagging"  // not done; imgctl release --heal finishes it
)

// referrersTag is how a registry without a referrers API lists them: under fallback tags.
const referrersTag = "tag"

// releaseLock is release.lock.json: what a release made, under which tags,
// where. It is the release's journal, too: it is written before the first tag
// moves, with everything pending, and again when it is over.
type releaseLock struct {
	strict.Header
	Overwrite string           `json:"overwrite,omitempty"` // why tags were moved that pointed elsewhere
	Artifacts []lockedArtifact `json:"artifacts"`           // the images first, then the bundles
	Statement *lockedStatement `json:"statement,omitempty"` // what was said of them; absent in locks of before there was one
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
	Repository string        `json:"repository"`
	State      string        `json:"state"`
	Referrers  string        `json:"referrers,omitempty"` // referrersTag, or absent
	Replaced   []replacedTag `json:"replaced,omitempty"`
}

// replacedTag is a tag that was moved although it pointed elsewhere.
type replacedTag struct {
	Tag string `json:"tag"`
	Was string `json:"was"`
}

func replacedTags(rc oci.Receipt) []replacedTag {
	var out []replacedTag
	for _, r := range rc.Replaced {
		out = append(out, replacedTag{r.Tag, r.Was.String()})
	}
	return out
}

// newReleaseLock records what is about to be released.
func newReleaseLock(products []*product, overwrite string) *releaseLock {
	l := &releaseLock{Header: header("ReleaseLock"), Overwrite: overwrite}
	for _, pr := range products {
		a := lockedArtifact{Name: pr.name, Version: pr.version, Variant: pr.target.Variant, Digest: pr.digest.String(), Tags: pr.tags[pr.digest]}
		for _, platform := range sortedKeys(pr.parts) {
			h := pr.parts[platform]
			a.Platforms = append(a.Platforms, lockedPlatform{platform, h.String(), pr.tags[h]})
		}
		for _, to := range pr.to {
			a.Destinations = append(a.Destinations, lockedDestination{Repository: to.Repository, State: statePending})
		}
		l.Artifacts = append(l.Artifacts, a)
	}
	return l
}

// settle records how it ended: receipts are in the order of the artifacts.
func (l *releaseLock) settle(receipts [][]oci.Receipt) {
	for i, part := range receipts {
		for j, rc := range part {
			l.Artifacts[i].Destinations[j].settle(rc)
		}
	}
}

func (d *lockedDestination) settle(rc oci.Receipt) {
	d.State = stateReleased
	if rc.Err != nil {
		d.State = stateLagging
	}
	d.Referrers = ""
	if rc.FallbackTags {
		d.Referrers = referrersTag
	}
	d.Replaced = append(d.Replaced, replacedTags(rc)...)
}

// tagged returns the digest of every tag that the lock records.
func (a *lockedArtifact) tagged() map[string]string {
	m := make(map[string]string)
	for _, t := range a.Tags {
		m[t] = a.Digest
	}
	for _, p := range a.Platforms {
		for _, t := range p.Tags {
			m[t] = p.Digest
		}
	}
	return m
}

// follow takes over what is on record of the same digests: why and over what
// their tags were moved, and how the registries list referrers.
func (l *releaseLock) follow(before *releaseLock) {
	if len(before.Artifacts) != len(l.Artifacts) {
		return
	}
	for i, a := range before.Artifacts {
		if a.Digest != l.Artifacts[i].Digest || len(a.Destinations) != len(l.Artifacts[i].Destinations) {
			return
		}
	}
	if l.Overwrite == "" {
		l.Overwrite = before.Overwrite
	}
	for i, a := range before.Artifacts {
		for j, d := range a.Destinations {
			now := &l.Artifacts[i].Destinations[j]
			now.Replaced, now.Referrers = d.Replaced, d.Referrers
		}
	}
}

// recall tells the destinations what is on record of them.
func (a *lockedArtifact) recall(to []oci.Destination) []oci.Destination {
	to = slices.Clone(to)
	for i, d := range a.Destinations {
		to[i].FallbackTags = d.Referrers == referrersTag
	}
	return to
}

// mayFollow refuses a release that would give tags to something else which one
// that was interrupted may have moved already: half of the registries would have
// the one, half the other.
func (l *releaseLock) mayFollow(path, overwrite string) error {
	before, err := loadReleaseLock(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	l.follow(before)
	pending := make(map[string]string) // by repository:tag
	for _, a := range before.Artifacts {
		for _, d := range a.Destinations {
			for tag, digest := range a.tagged() {
				if d.State == statePending {
					pending[d.Repository+":"+tag] = digest
				}
			}
		}
	}
	for _, a := range l.Artifacts {
		for _, d := range a.Destinations {
			for tag, digest := range a.tagged() {
				was := pending[d.Repository+":"+tag]
				if was != "" && was != digest && overwrite == "" {
					return hint(coded(exitDiffers, fmt.Errorf("%s: a release was interrupted that gives %s:%s to %s; this one would give it to %s",
						path, d.Repository, tag, shortDigest(was), shortDigest(digest))), "imgctl release --heal finishes that one; then release another version")
				}
			}
		}
	}
	return nil
}

func loadReleaseLock(path string) (*releaseLock, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read release lock: %w", err)
	}
	l := &releaseLock{}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(l); err != nil {
		return nil, usage(fmt.Errorf("%s: %w", path, err))
	}
	if want := header("ReleaseLock"); l.Header != want {
		return nil, usage(fmt.Errorf("%s: got %s %s, want %s %s", path, l.APIVersion, l.Kind, want.APIVersion, want.Kind))
	}
	return l, nil
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
