package build

import (
	"cmp"
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/imgctl/imgctl/internal/deb"
)

// Archives are Debian archives by name: "debian" and "debian-security".
type Archives map[string]*deb.Archive

// named returns an archive; "" means "debian", as in a lock.
func (a Archives) named(name string) (*deb.Archive, error) {
	name = cmp.Or(name, deb.Main)
	if one := a[name]; one != nil {
		return one, nil
	}
	return nil, fmt.Errorf("archive %s: nobody said where it is", name)
}

// Fetch brings packages of l that are in one archive into the cache.
func (a Archives) Fetch(ctx context.Context, l *Lock, name string, packages []LockedPackage) error {
	_, err := a.fetchFrom(ctx, l, name, packages)
	return err
}

// fetchFrom fetches packages of one archive, and returns their files in their order.
func (a Archives) fetchFrom(ctx context.Context, l *Lock, name string, packages []LockedPackage) ([]string, error) {
	from, err := a.named(name)
	if err != nil {
		return nil, err
	}
	files := make([]deb.File, len(packages))
	for i, p := range packages {
		files[i] = l.file(p)
	}
	return from.FetchAll(ctx, 0, files...)
}

// fetch fetches packages of l, each from its archive, and returns their files in their order.
func (a Archives) fetch(ctx context.Context, l *Lock, packages []LockedPackage) ([]string, error) {
	byArchive, places := make(map[string][]LockedPackage), make(map[string][]int)
	for i, p := range packages {
		name := p.archiveName()
		byArchive[name], places[name] = append(byArchive[name], p), append(places[name], i)
	}
	files := make([]string, len(packages))
	g, ctx := errgroup.WithContext(ctx)
	for name, some := range byArchive {
		g.Go(func() error {
			paths, err := a.fetchFrom(ctx, l, name, some)
			for i, path := range paths {
				files[places[name][i]] = path
			}
			return err
		})
	}
	return files, g.Wait()
}
