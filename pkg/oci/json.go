package oci

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// maxNesting is how deep a JSON document may be nested. A manifest needs five.
const maxNesting = 32

// topKeys walks the JSON object in data and returns its keys.
//
// It refuses what two readers could read differently: an object that has a key
// twice, or a key that differs from one of image-spec only in case (which
// encoding/json takes for it), and anything after the object.
func topKeys(data []byte) (map[string]bool, error) {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("not a JSON object: %s", clip(firstLine(string(data))))
	}
	keys, err := walkObject(d, false, 1)
	if err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("data after the JSON object")
	}
	return keys, nil
}

// walkObject reads an object whose opening brace has been read. In a free one
// (annotations) keys may be anything, but not be there twice.
func walkObject(d *json.Decoder, free bool, depth int) (map[string]bool, error) {
	if depth > maxNesting {
		return nil, fmt.Errorf("nested deeper than %d", maxNesting)
	}
	keys := make(map[string]bool)
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("malformed JSON: %w", err)
		}
		key := t.(string) // the decoder has checked that it is one
		if keys[key] {
			return nil, fmt.Errorf("key %q is there twice", clip(key))
		}
		if want, known := specKey(key); known && want != key && !free {
			return nil, fmt.Errorf("key %q: want %q", clip(key), want)
		}
		keys[key] = true
		if err := walkValue(d, free || key == "annotations", depth); err != nil {
			return nil, err
		}
	}
	return keys, closing(d)
}

func walkValue(d *json.Decoder, free bool, depth int) error {
	t, err := d.Token()
	if err != nil {
		return fmt.Errorf("malformed JSON: %w", err)
	}
	switch t {
	case json.Delim('{'):
		_, err := walkObject(d, free, depth+1)
		return err
	case json.Delim('['):
		if depth >= maxNesting {
			return fmt.Errorf("nested deeper than %d", maxNesting)
		}
		for d.More() {
			if err := walkValue(d, free, depth+1); err != nil {
				return err
			}
		}
		return closing(d)
	}
	return nil
}

// closing reads the brace or bracket at the end.
func closing(d *json.Decoder) error {
	if _, err := d.Token(); err != nil {
		return fmt.Errorf("malformed JSON: %w", err)
	}
	return nil
}

// specKey returns the spelling that image-spec has for key, whatever its case.
func specKey(key string) (string, bool) {
	for _, k := range [...]string{
		"schemaVersion", "mediaType", "artifactType", "config", "layers", "manifests", "subject", "annotations",
		"size", "digest", "data", "urls", "platform", "os", "architecture", "variant", "os.version", "os.features", "features",
	} {
		if strings.EqualFold(k, key) {
			return k, true
		}
	}
	return "", false
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return sanitize(s)
}

// sanitize makes text from outside safe to print: one line, printable, short.
func sanitize(s string) string {
	const most = 300
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool {
		return r <= ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == 0xfffd || r == '\u2028' || r == '\u2029'
	}), " ")
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
