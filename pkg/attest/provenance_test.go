package attest_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	provenancev1 "github.com/in-toto/attestation/go/predicates/provenance/v1"
	intoto "github.com/in-toto/attestation/go/v1"
	"google.golang.org/protobuf/encoding/protojson"

	"github.com/imgctl/imgctl/pkg/attest"
)

func provenanceOf(t *testing.T, r attest.Record) *provenancev1.Provenance {
	t.Helper()
	data, err := attest.Provenance(r)
	if err != nil {
		t.Fatal(err)
	}
	var p provenancev1.Provenance
	if err := protojson.Unmarshal(data, &p); err != nil { // refuses unknown fields
		t.Fatal(err)
	}
	if err := p.Validate(); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return &p
}

func TestProvenanceNamesEveryInputWithItsDigest(t *testing.T) {
	r := record("amd64")
	p := provenanceOf(t, r)
	found := map[string]*intoto.ResourceDescriptor{}
	for _, d := range p.BuildDefinition.ResolvedDependencies {
		if err := d.Validate(); err != nil {
			t.Errorf("%s: %v", d.Name, err)
		}
		found[d.Name] = d
	}
	for _, m := range r.Materials {
		d := found[m.Name]
		if d == nil {
			t.Errorf("%s is missing", m.Name)
			continue
		}
		for algorithm, digest := range m.Digests {
			if d.Digest[algorithm] != digest {
				t.Errorf("%s: %s: got %q, want %q", m.Name, algorithm, d.Digest[algorithm], digest)
			}
		}
	}
	tarball := found["kubernetes-node-linux-amd64.tar.gz"]
	if got, want := tarball.Uri, "v1.36.2/kubernetes-node-linux-amd64.tar.gz"; got != want {
		t.Errorf("uri: got %s, want %s", got, want)
	}
	if got, want := tarball.Annotations.String(), `proofs`; !strings.Contains(got, want) || strings.Count(got, "pin") != 1 {
		t.Errorf("annotations: got %s", got)
	}
	deb := found["iptables"]
	if got, want := deb.Uri, "pkg:deb/debian/iptables@1.8.11-2?arch=amd64"; got != want {
		t.Errorf("uri: got %s, want %s", got, want)
	}
	if got, want := deb.Annotations.AsMap()["location"], "pool/main/i/iptables/iptables_1.8.11-2_amd64.deb"; got != want {
		t.Errorf("location: got %v, want %v", got, want)
	}
}

func TestProvenanceSaysWhatWasAskedForAndWhoBuilt(t *testing.T) {
	p := provenanceOf(t, record("arm64"))
	ask := p.BuildDefinition.ExternalParameters.AsMap()
	if ask["version"] != "v1.36.2" || ask["platform"] != "linux/arm64" || ask["sourceDateEpoch"] != 1780000000.0 {
		t.Errorf("external parameters: got %v", ask)
	}
	if got := p.BuildDefinition.InternalParameters.AsMap()["go"]; got != "go1.26.3" {
		t.Errorf("internal parameters: got %v", got)
	}
	if got := p.BuildDefinition.BuildType; got != attest.BuildType {
		t.Errorf("build type: got %s", got)
	}
	if b := p.RunDetails.Builder; b.Id != "https://github.com/imgctl/imgctl" || b.Version["imgctl"] != "v0.1.0" {
		t.Errorf("builder: got %v", b)
	}
	r := record("arm64")
	if r.Parameters["platform"] != nil {
		t.Error("the record's own parameters were changed")
	}
	r.Parameters = map[string]any{"platform": "as asked"}
	if got := provenanceOf(t, r).BuildDefinition.ExternalParameters.AsMap()["platform"]; got != "as asked" {
		t.Errorf("platform: got %v, want what the record says", got)
	}
}

func TestProvenanceHasNoClockOfItsOwn(t *testing.T) {
	if m := provenanceOf(t, record("amd64")).RunDetails.Metadata; m != nil {
		t.Errorf("got %v, want no metadata", m)
	}
	r := record("amd64")
	r.Invocation = "https://ci.example.org/1"
	r.Started = time.Date(2026, 7, 1, 12, 0, 0, 987, time.FixedZone("", 7200))
	m := provenanceOf(t, r).RunDetails.Metadata
	if m.InvocationId != r.Invocation || !m.StartedOn.AsTime().Equal(r.Started.Truncate(time.Second)) || m.FinishedOn != nil {
		t.Errorf("got %v", m)
	}
}

func TestProvenanceNeedsABuilder(t *testing.T) {
	r := record("amd64")
	r.Builder = ""
	if data, err := attest.Provenance(r); err == nil {
		t.Errorf("got %s", data)
	}
	r = record("amd64")
	r.Parameters["f"] = func() {}
	if data, err := attest.Provenance(r); err == nil {
		t.Errorf("parameters that are no JSON: got %s", data)
	}
}

func TestStatementBindsThePredicateToTheDigest(t *testing.T) {
	predicate, err := attest.Provenance(record("amd64"))
	if err != nil {
		t.Fatal(err)
	}
	data, err := attest.Statement(subject(), attest.PredicateProvenance, predicate)
	if err != nil {
		t.Fatal(err)
	}
	var s intoto.Statement
	if err := protojson.Unmarshal(data, &s); err != nil {
		t.Fatal(err)
	}
	if err := s.Validate(); err != nil {
		t.Fatal(err)
	}
	if s.PredicateType != attest.PredicateProvenance || s.Subject[0].Name != subject().Name || "sha256:"+s.Subject[0].Digest["sha256"] != subject().Digest {
		t.Errorf("got %s", data)
	}
	var raw struct{ Predicate json.RawMessage }
	if err := json.Unmarshal(data, &raw); err != nil || string(raw.Predicate) != string(predicate) {
		t.Errorf("the predicate changed on its way in (%v)", err)
	}
}

// The golden bytes hold the form still: a signature made by one version of
// imgctl must be the one that the next would make.
func TestStatementHasOneForm(t *testing.T) {
	s := attest.Subject{Name: "quay.io/poseidon/kubelet", Digest: "sha256:" + strings.Repeat("ab", 32)}
	want := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"quay.io/poseidon/kubelet","digest":{"sha256":"` + strings.Repeat("ab", 32) +
		`"}}],"predicateType":"https://sigstore.dev/cosign/sign/v1","predicate":{}}`
	for _, predicate := range []string{"", "{}", " {\n}\n"} {
		if got, err := attest.Statement(s, attest.PredicateSignature, []byte(predicate)); err != nil || string(got) != want {
			t.Errorf("predicate %q: %v: got\n%s\nwant\n%s", predicate, err, got, want)
		}
	}
	got, err := attest.Statement(s, "https://example.org/t", []byte(`{"b": "<&>", "a": [1]}`))
	if err != nil || !strings.HasSuffix(string(got), `"predicate":{"b":"<&>","a":[1]}}`) {
		t.Errorf("%v: got %s, want the predicate's own order and no escapes", err, got)
	}
}

func TestStatementRefusesWhatIsNoPredicate(t *testing.T) {
	for _, predicate := range []string{"[]", "null", `"x"`, "{", "{}{}", " ", "true"} {
		if got, err := attest.Statement(subject(), attest.PredicateSPDX, []byte(predicate)); err == nil {
			t.Errorf("%q: got %s", predicate, got)
		}
	}
	if got, err := attest.Statement(subject(), "", []byte("{}")); err == nil {
		t.Errorf("no predicate type: got %s", got)
	}
}
