package attest

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// statementType is the type of an in-toto statement, version 1
// (https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md).
const statementType = "https://in-toto.io/Statement/v1"

type statement struct {
	Type          string          `json:"_type"`
	Subject       []descriptor    `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// descriptor is an in-toto ResourceDescriptor.
type descriptor struct {
	Name        string            `json:"name,omitempty"`
	URI         string            `json:"uri,omitempty"`
	Digest      map[string]string `json:"digest"`
	Annotations *annotations      `json:"annotations,omitempty"`
}

// Statement returns the in-toto statement that binds predicate, a JSON object,
// to s. No predicate means an empty object. Equal arguments give equal bytes.
func Statement(s Subject, predicateType string, predicate []byte) ([]byte, error) {
	digest, err := s.hex()
	if err != nil {
		return nil, err
	}
	if predicateType == "" {
		return nil, fmt.Errorf("statement about %s: no predicate type", s.Name)
	}
	if len(predicate) == 0 {
		predicate = []byte("{}")
	}
	if first := bytes.TrimLeft(predicate, " \t\r\n"); !json.Valid(predicate) || first[0] != '{' {
		return nil, fmt.Errorf("statement about %s: predicate is not a JSON object", s.Name)
	}
	return encode(statement{
		Type:          statementType,
		Subject:       []descriptor{{Name: s.Name, Digest: map[string]string{"sha256": digest}}},
		PredicateType: predicateType,
		Predicate:     predicate,
	})
}

// encode is the one way to bytes in this package: struct fields in their order,
// map keys sorted, no line break and no HTML escape.
func encode(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), nil
}
