package rebuild

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
)

// diffJSON returns the first difference of two documents that are not the same
// bytes: a value, or else how it is written down.
func diffJSON(published, rebuilt []byte) *Difference {
	var a, b any
	if err := json.Unmarshal(published, &a); err != nil {
		return &Difference{Field: "JSON", Pair: Pair{Published: fmt.Sprintf("%.200s", err), Rebuilt: "a document"}}
	}
	if err := json.Unmarshal(rebuilt, &b); err != nil {
		return &Difference{Field: "JSON", Pair: Pair{Published: "a document", Rebuilt: fmt.Sprintf("%.200s", err)}}
	}
	if d := diffValues("", a, b); d != nil {
		return d
	}
	if s, err := diffStreams(bytes.NewReader(published), bytes.NewReader(rebuilt)); err == nil && s != nil {
		return s.difference("", "document")
	}
	return &Difference{Field: "document"}
}

// diffValues compares two values at a path such as "config.Env[2]".
func diffValues(path string, a, b any) *Difference {
	switch x := a.(type) {
	case map[string]any:
		if y, ok := b.(map[string]any); ok {
			return diffObjects(path, x, y)
		}
	case []any:
		if y, ok := b.([]any); ok {
			return diffArrays(path, x, y)
		}
	}
	if reflect.DeepEqual(a, b) {
		return nil
	}
	return &Difference{Field: path, Pair: Pair{text(a), text(b)}}
}

func diffObjects(path string, a, b map[string]any) *Difference {
	both := maps.Clone(a)
	maps.Copy(both, b)
	for _, key := range slices.Sorted(maps.Keys(both)) {
		x, inA := a[key]
		y, inB := b[key]
		below := fmt.Sprintf("%.100s", key)
		if path != "" {
			below = path + "." + below
		}
		switch {
		case !inA:
			return &Difference{Field: below, Pair: Pair{Rebuilt: text(y)}}
		case !inB:
			return &Difference{Field: below, Pair: Pair{Published: text(x)}}
		}
		if d := diffValues(below, x, y); d != nil {
			return d
		}
	}
	return nil
}

func diffArrays(path string, a, b []any) *Difference {
	for i := range max(len(a), len(b)) {
		below := fmt.Sprintf("%s[%d]", path, i)
		switch {
		case i >= len(a):
			return &Difference{Field: below, Pair: Pair{Rebuilt: text(b[i])}}
		case i >= len(b):
			return &Difference{Field: below, Pair: Pair{Published: text(a[i])}}
		}
		if d := diffValues(below, a[i], b[i]); d != nil {
			return d
		}
	}
	return nil
}

// text is a value as it is shown.
func text(v any) string {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Sprintf("%.200v", v)
	}
	return fmt.Sprintf("%.200s", data)
}
