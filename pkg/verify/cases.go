package verify

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/strict"
	"github.com/imgctl/imgctl/pkg/oci"
)

// casesKind is the kind of a file of [Cases].
const casesKind = "PolicyTest"

// Cases are references with the verdict that a policy should come to about each.
type Cases struct {
	Policy string // path of the policy
	List   []Case
}

// Case is one of them.
type Case struct {
	Reference oci.Reference
	Want      string // "verified", "changed", "absent", or the [Reason] of a refusal
}

// CaseResult says what the policy came to.
type CaseResult struct {
	Reference string      `json:"reference"`
	Want      string      `json:"want"`
	Got       string      `json:"got"` // as Want, or "unknown"
	OK        bool        `json:"ok"`
	Found     *Inspection `json:"found"`
}

// LoadCases reads a table of cases. It has one that must pass and one that must
// fail: a table of one kind only is met by a policy that accepts, or refuses, all.
func LoadCases(path string) (*Cases, error) {
	data, err := strict.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("load policy test: %w", err)
	}
	c, err := decodeCases(path, data)
	if err != nil {
		return nil, fmt.Errorf("load policy test: %w", err)
	}
	return c, nil
}

// decodeCases decodes the table; the policy is relative to its directory.
func decodeCases(name string, data []byte) (*Cases, error) {
	var f struct {
		strict.Header `yaml:",inline"`

		Policy string `yaml:"policy"`
		Cases  []struct {
			Reference string `yaml:"reference"`
			Want      string `yaml:"want"`
		} `yaml:"cases"`
	}
	if err := strict.Decode(name, data, casesKind, &f); err != nil {
		return nil, err
	}
	if f.Policy == "" {
		return nil, strict.At(name, data, "policy", "got none, want the policy's file")
	}
	c := &Cases{Policy: f.Policy}
	if !filepath.IsAbs(f.Policy) {
		c.Policy = filepath.Join(filepath.Dir(name), f.Policy)
	}
	passes := 0
	for i, row := range f.Cases {
		at := fmt.Sprintf("cases[%d]", i)
		ref, err := oci.ParseReference(row.Reference)
		switch {
		case err != nil:
			return nil, strict.At(name, data, at+".reference", err.Error())
		case ref.Tag == "" && ref.Digest == (v1.Hash{}):
			return nil, strict.At(name, data, at+".reference", "got no tag and no digest, want one of them")
		case !slices.Contains(wants(), row.Want):
			return nil, strict.At(name, data, at+".want", fmt.Sprintf("got %q, want one of %s", row.Want, join(wants())))
		case row.Want == string(VerdictVerified):
			passes++
		}
		c.List = append(c.List, Case{ref, row.Want})
	}
	if passes == 0 || passes == len(c.List) {
		return nil, strict.At(name, data, "cases", "want at least one that is verified and one that is not")
	}
	return c, nil
}

// wants are the verdicts that a case may want: all but unknown, which is none.
func wants() []string {
	list := []string{string(VerdictVerified), string(VerdictChanged), string(VerdictAbsent), string(Denied)}
	for r := range reasonText {
		list = append(list, string(r))
	}
	slices.Sort(list)
	return list
}

// Check inspects all references of the cases and compares.
func (v *Verifier) Check(ctx context.Context, cases []Case) ([]CaseResult, error) {
	results := make([]CaseResult, len(cases))
	errs := make([]error, len(cases))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, c := range cases {
		g.Go(func() error {
			results[i], errs[i] = v.check(ctx, c)
			return nil
		})
	}
	_ = g.Wait()
	return results, errors.Join(errs...)
}

func (v *Verifier) check(ctx context.Context, c Case) (CaseResult, error) {
	in, err := v.Inspect(ctx, c.Reference)
	if err != nil {
		return CaseResult{}, err
	}
	got := string(in.Verdict)
	if in.Verdict == VerdictRefused {
		got = string(in.Reason)
	}
	return CaseResult{Reference: in.Reference, Want: c.Want, Got: got, OK: got == c.Want, Found: in}, nil
}
