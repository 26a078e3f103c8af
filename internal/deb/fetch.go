package deb

import (
	"context"
	"fmt"
	"path"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/download"
)

// DefaultJobs is how many files [Archive.FetchAll] asks for at once.
const DefaultJobs = 8

// Fetch gets one file of the archive and returns where it is in the cache. f
// must have a digest, which is checked however the file got there.
//
// A file that the archive answers not to have, because a newer version replaced
// it, is asked of its snapshots. [download.NotFound] holds when none has it.
func (a *Archive) Fetch(ctx context.Context, f File) (string, error) {
	if err := checkFilename(f.Filename); err != nil {
		return "", err
	}
	if f.SHA256 == "" {
		return "", fmt.Errorf("fetch %s: no digest to check it by", f.Filename)
	}
	urls, err := a.urls(f.Filename)
	if err != nil {
		return "", err
	}
	older, err := a.snapshots(f)
	if err != nil {
		return "", err
	}
	want := download.Want{Size: f.Size, SHA256: f.SHA256}
	got, err := a.Download.Get(ctx, f.Filename, urls, want)
	if download.NotFound(err) && len(older) > 0 {
		var again error
		if got, again = a.Download.Get(ctx, f.Filename, older, want); again == nil {
			return got.Path, nil
		}
		err = download.Join("not in the archive any more", []error{err, again})
	}
	if err != nil {
		return "", err
	}
	return got.Path, nil
}

// snapshots returns where the file was in the past, the likeliest place first.
//
// A snapshot service has the archive as it was at some moments, a few hours
// apart, and answers for any other moment with the one before. A suite that was
// just published is therefore not in the state before its own date. A day later it
// is, and nothing that it has is gone: the archive keeps a replaced package longer.
func (a *Archive) snapshots(f File) ([]string, error) {
	if a.Snapshot == "" || f.Date.IsZero() {
		return nil, nil
	}
	var urls []string
	for _, after := range []time.Duration{24 * time.Hour, 0} {
		moment := f.Date.UTC().Add(after).Format("20060102T150405Z")
		u, err := join("snapshot service", strings.TrimRight(a.Snapshot, "/"), "archive/"+a.name()+"/"+moment+"/"+f.Filename)
		if err != nil {
			return nil, err
		}
		urls = append(urls, u)
	}
	return urls, nil
}

// A MissingError lists the files that the cache does not have when nobody may be
// asked. [download.Unreachable] holds for it.
type MissingError struct {
	Files []string // relative to the archive, in the order in which they were wanted
	Of    int      // how many were wanted
	Cache string   // its directory

	err error // what the first of them ended with
}

// Error is one line, with the names of the first few.
func (e *MissingError) Error() string {
	const most = 5
	names := make([]string, 0, most+1)
	for _, f := range e.Files[:min(len(e.Files), most)] {
		names = append(names, path.Base(f))
	}
	if more := len(e.Files) - most; more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return fmt.Sprintf("offline, and %d of %d packages are not in the cache at %s: %s", len(e.Files), e.Of, e.Cache, strings.Join(names, ", "))
}

// Unwrap returns what getting the first of them ended with.
func (e *MissingError) Unwrap() error { return e.err }

// FetchAll is [Archive.Fetch] of many files, jobs at once (0: [DefaultJobs]).
// The paths are in the order of files. The first failure stops the rest, but an
// offline client looks for all, and says in a [*MissingError] what there is not.
func (a *Archive) FetchAll(ctx context.Context, jobs int, files ...File) ([]string, error) {
	if jobs <= 0 {
		jobs = DefaultJobs
	}
	paths, missed := make([]string, len(files)), make([]error, len(files))
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(jobs)
	for i, f := range files {
		g.Go(func() (err error) {
			paths[i], err = a.Fetch(ctx, f)
			if a.Download.Offline && download.Unreachable(err) {
				missed[i], err = err, nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	missing := &MissingError{Of: len(files), Cache: a.Download.Dir()}
	for i, err := range missed {
		if err == nil {
			continue
		}
		if missing.err == nil {
			missing.err = err
		}
		missing.Files = append(missing.Files, files[i].Filename)
	}
	if missing.err != nil {
		return nil, missing
	}
	return paths, nil
}
