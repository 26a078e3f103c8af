package rebuild

import (
	"encoding/json"
	"errors"
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/imgctl/imgctl/pkg/attest"
)

// UnsafePredicate returns the provenance about h in a sigstore bundle, whoever
// has signed it. A bundle about something else is an error.
func UnsafePredicate(bundle []byte, h v1.Hash) ([]byte, error) {
	var b struct {
		Envelope struct {
			Payload []byte `json:"payload"`
		} `json:"dsseEnvelope"`
	}
	if err := json.Unmarshal(bundle, &b); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	var s struct {
		PredicateType string `json:"predicateType"`
		Subject       []struct {
			Digest map[string]string `json:"digest"`
		} `json:"subject"`
		Predicate json.RawMessage `json:"predicate"`
	}
	if len(b.Envelope.Payload) == 0 {
		return nil, errors.New("bundle: no statement")
	}
	if err := json.Unmarshal(b.Envelope.Payload, &s); err != nil {
		return nil, fmt.Errorf("statement: %w", err)
	}
	if s.PredicateType != attest.PredicateProvenance {
		return nil, fmt.Errorf("statement: predicate type: got %.200q, want %s", s.PredicateType, attest.PredicateProvenance)
	}
	for _, subject := range s.Subject {
		if subject.Digest[h.Algorithm] == h.Hex {
			return s.Predicate, nil
		}
	}
	return nil, fmt.Errorf("the statement is not about %s", h)
}
