package build

import (
	"context"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/build/inspect"
)

// A GateError says that an image has what its spec does not allow.
type GateError struct {
	Violations []inspect.Violation // at least one
}

// Error is one line: the first violation, and how many more there are.
func (e *GateError) Error() string {
	if more := len(e.Violations) - 1; more > 0 {
		return fmt.Sprintf("%s (and %d more)", e.Violations[0], more)
	}
	return e.Violations[0].String()
}

// Hint is what to do about the first of them.
func (e *GateError) Hint() string { return e.Violations[0].Gate.Hint() }

// Check reads what is in an image that was made of in, and compares it with the
// gates of the spec. What they do not let through is a [*GateError]; the contents
// are returned all the same. cache may be nil.
func (in Input) Check(ctx context.Context, img v1.Image, cache *inspect.Cache) (*inspect.FS, error) {
	contents, err := inspect.Read(ctx, img, cache)
	if err != nil {
		return nil, fmt.Errorf("read what was built: %w", err)
	}
	if violations := contents.Check(in.Spec.Gates, in.expect()); len(violations) > 0 {
		return contents, &GateError{violations}
	}
	return contents, nil
}

// expect is what the spec and the lock say about the contents.
func (in Input) expect() inspect.Expect {
	want := inspect.Expect{Architecture: in.Platform.Architecture, Packages: []inspect.Package{}}
	for _, p := range in.Packages() {
		one := inspect.Package{Name: p.Name, Version: p.Version, Size: inspect.Size(p.Size), Was: inspect.Size(p.Size)}
		if p.Before != nil {
			one.Was = inspect.Size(p.Before.Size)
		}
		want.Packages = append(want.Packages, one)
	}
	for _, f := range in.Spec.Upstream.Files {
		want.Owned = append(want.Owned, f.Path)
	}
	for _, f := range in.Spec.Local {
		want.Owned = append(want.Owned, f.Path)
	}
	for _, d := range in.Spec.Directories {
		want.Owned = append(want.Owned, d.Path)
	}
	for _, f := range in.Spec.Files {
		want.Owned = append(want.Owned, f.Path)
	}
	for _, l := range in.Spec.Links {
		want.Owned = append(want.Owned, l.Path)
	}
	if len(in.Spec.Users)+len(in.Spec.Groups) > 0 { // they are in an image without base-passwd as well
		want.Owned = append(want.Owned, "/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow")
	}
	return want
}
