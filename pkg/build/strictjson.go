package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/imgctl/imgctl/internal/strict"
)

// maxNesting bounds how deep a lock may be nested; it has four levels.
const maxNesting = 16

// decodeJSON decodes the one JSON document in data, which may have no unknown
// and no duplicate key. Every mistake is a [*strict.Error]. Locks are JSON and
// have members that only encoding/json knows how to read, hence not strict.Decode.
func decodeJSON(name string, data []byte, into any) error {
	blame := func(offset int64, msg string) error {
		line, column := position(data, offset)
		return &strict.Error{File: name, Line: line, Column: column, Msg: msg}
	}
	keys := json.NewDecoder(bytes.NewReader(data))
	if err := checkKeys(keys, 0); err != nil {
		return blame(keys.InputOffset(), plain(err))
	}
	if _, err := keys.Token(); err != io.EOF {
		return blame(keys.InputOffset(), "something follows the document")
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	var wrong *json.UnmarshalTypeError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &wrong):
		return blame(wrong.Offset, fmt.Sprintf("%s: got a JSON %s, want %s", wrong.Field, wrong.Value, wrong.Type))
	default:
		return &strict.Error{File: name, Msg: plain(err)}
	}
}

// plain is the message of an error without the package's name in front.
func plain(err error) string { return strings.TrimPrefix(err.Error(), "json: ") }

// checkKeys reads one value and refuses an object with the same key twice.
func checkKeys(d *json.Decoder, depth int) error {
	if depth > maxNesting {
		return errors.New("nested too deeply")
	}
	t, err := d.Token()
	if err != nil {
		return err
	}
	open, ok := t.(json.Delim)
	if !ok {
		return nil
	}
	seen := make(map[string]bool)
	for d.More() {
		if open == '{' {
			key, err := d.Token()
			if err != nil {
				return err
			}
			name := key.(string)             // a decoder in an object gives nothing else
			if seen[strings.ToLower(name)] { // encoding/json does not tell them apart
				return fmt.Errorf("key %q is given twice", name)
			}
			seen[strings.ToLower(name)] = true
		}
		if err := checkKeys(d, depth+1); err != nil {
			return err
		}
	}
	_, err = d.Token()
	return err
}

// position turns an offset into line and column, both from 1.
func position(data []byte, offset int64) (line, column int) {
	before := data[:min(int64(len(data)), max(0, offset))]
	return 1 + bytes.Count(before, []byte("\n")), len(before) - bytes.LastIndexByte(before, '\n')
}
