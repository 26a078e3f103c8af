package mirror_test

import (
	"errors"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/mirror"
	"github.com/imgctl/imgctl/pkg/oci"
	"github.com/imgctl/imgctl/pkg/sign"
	"github.com/imgctl/imgctl/pkg/verify"
)

// three registries hold one release under a policy that names all of them.
type three struct {
	*world
	key   *sign.Key
	all   []*imgtest.Registry
	names []string
}

func newThree(t *testing.T) *three {
	t.Helper()
	s := &three{key: imgtest.SigningKey(t)}
	for range 3 {
		r := imgtest.StartRegistry(t, imgtest.RegistryOptions{})
		s.all, s.names = append(s.all, r), append(s.names, r.Host()+"/kubelet")
	}
	policy, err := verify.LoadPolicy(imgtest.PolicyFile(t, t.TempDir(), s.names, s.key))
	if err != nil {
		t.Fatal(err)
	}
	client := &oci.Client{Retry: oci.Retry{Tries: 1, Wait: noWait}}
	s.world = &world{
		source: s.all[0], ref: oci.Reference{Repository: s.names[0], Tag: tag}, client: client,
		verifier: &verify.Verifier{Policy: policy, Registry: client, Now: imgtest.ReleaseTime},
	}
	s.digest = s.push(t, 0, sbom)
	if _, err := s.sync(t, s.names[1:]...); err != nil {
		t.Fatal(err)
	}
	return s
}

// push adds the release, or what is new about it, to one of the registries.
func (s *three) push(t *testing.T, i int, predicate string) v1.Hash {
	t.Helper()
	return imgtest.Release{
		Repository: s.names[i], Content: imgtest.SmallIndex(t, "kubelet"), Tags: []string{tag}, Signers: []sign.Signer{s.key}, Attest: map[string]string{predicate: "{}"},
	}.Push(t)
}

func (s *three) compare(t *testing.T) *mirror.Audit {
	t.Helper()
	in, err := s.verifier.Inspect(t.Context(), s.ref)
	if err != nil {
		t.Fatal(err)
	}
	a, err := mirror.Compare(t.Context(), s.client, s.verifier, in)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func TestSourcesThatAreEqualNeedNoRepair(t *testing.T) {
	s := newThree(t)
	for _, r := range s.all {
		r.Forget()
	}
	if a := s.compare(t); len(a.Differences) > 0 || a.Best != s.names[0] || a.Digest != s.digest.String() {
		t.Errorf("got %+v", a)
	}
	for _, r := range s.all {
		if w := r.Writes(); len(w) > 0 {
			t.Errorf("a comparison wrote: %v", w)
		}
	}
}

// What the second has and the first lacks goes to the first, and from there to all.
func TestHealGivesEverySourceWhatAnyOfThemHas(t *testing.T) {
	s := newThree(t)
	s.push(t, 0, "https://example.test/first")
	s.push(t, 1, "https://example.test/second")
	a := s.compare(t)
	type pair struct{ source, from string }
	want := []pair{{s.names[0], s.names[1]}, {s.names[1], s.names[0]}, {s.names[2], s.names[0]}}
	var got []pair
	for _, d := range a.Differences {
		got = append(got, pair{d.Source, d.From})
		if d.Objects == 0 || d.Action != mirror.DoCopy || d.Err != nil {
			t.Errorf("difference: %+v", d)
		}
	}
	if len(got) != len(want) || got[0] != want[0] || got[1] != want[1] || got[2] != want[2] {
		t.Fatalf("got %v, want %v", got, want)
	}
	if _, err := a.Heal(t.Context(), s.client, s.verifier, ""); err != nil {
		t.Fatal(err)
	}
	if a := s.compare(t); len(a.Differences) > 0 {
		t.Errorf("healed, and still: %+v", a.Differences)
	}
	for _, name := range s.names { // the signature and three attestations
		list, err := s.repository(t, name).Referrers(t.Context(), s.digest)
		if err != nil || len(list) != 4 {
			t.Errorf("%s: got %d referrers, %v", name, len(list), err)
		}
	}
}

// M12, M18: a tag that was moved is named, and stays until somebody says why it is moved back.
func TestM18HealLeavesAForeignTag(t *testing.T) {
	s := newThree(t)
	evil := imgtest.Release{Repository: s.names[2], Content: imgtest.SmallIndex(t, "evil"), Tags: []string{tag}}.Push(t)
	a := s.compare(t)
	var changed *oci.Changed
	if len(a.Differences) != 1 || !errors.As(a.Differences[0].Err, &changed) || changed.Got != evil {
		t.Fatalf("got %+v", a.Differences)
	}
	if _, err := a.Heal(t.Context(), s.client, s.verifier, ""); !errors.As(err, &changed) {
		t.Errorf("got %v, want that the tag was changed", err)
	}
	if d, err := s.repository(t, s.names[2]).Resolve(t.Context(), tag); err != nil || d.Digest != evil {
		t.Errorf("the tag: %v, %v", d.Digest, err)
	}
	if _, err := a.Heal(t.Context(), s.client, s.verifier, "credentials replaced"); err != nil {
		t.Fatal(err)
	}
	if a := s.compare(t); len(a.Differences) > 0 {
		t.Errorf("healed, and still: %+v", a.Differences)
	}
}

func TestSourceThatCannotBeAskedIsNotCalledDifferent(t *testing.T) {
	s := newThree(t)
	s.all[1].On(imgtest.Fault{Status: 503})
	a := s.compare(t)
	if len(a.Differences) != 1 || a.Differences[0].Source != s.names[1] || !oci.Unreachable(a.Differences[0].Err) {
		t.Errorf("got %+v", a.Differences)
	}
	// With nobody who is accepted there is nothing to compare with.
	in, err := s.verifier.Inspect(t.Context(), oci.Reference{Repository: s.names[0], Tag: "none"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.Compare(t.Context(), s.client, s.verifier, in); err == nil {
		t.Error("nothing was compared")
	}
}
