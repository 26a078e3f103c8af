// Package strict decodes configuration files that refuse to be misread.
//
// An unknown key, a duplicate key, a second document, another kind or version
// and a value of the wrong type are errors that name file, line and column. A
// file that decodes means what its author wrote.
package strict

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// APIVersion is the version of every file format that imgctl reads.
const APIVersion = "imgctl.dev/v1"

// MaxSize is the most bytes that a configuration file may have.
const MaxSize = 8 << 20

// Header is what every file starts with. Embed it with `yaml:",inline"`.
type Header struct {
	APIVersion string `yaml:"apiVersion" json:"apiVersion"`
	Kind       string `yaml:"kind" json:"kind"`
}

// Error is a mistake in a configuration file.
type Error struct {
	File   string // as the user named it
	Line   int    // 1-based; 0 when the mistake is the whole file
	Column int    // 1-based
	Msg    string // what is wrong, with got and wanted
}

// Error is one line.
func (e *Error) Error() string {
	if e.Line == 0 {
		return fmt.Sprintf("%s: %s", e.File, e.Msg)
	}
	return fmt.Sprintf("%s:%d:%d: %s", e.File, e.Line, e.Column, e.Msg)
}

// DecodeFile reads the file at path and decodes it as [Decode] does. A file
// that cannot be read is an error of package os, a file above [MaxSize] an [*Error].
func DecodeFile(path, kind string, into any) error {
	data, err := ReadFile(path)
	if err != nil {
		return err
	}
	return Decode(path, data, kind, into)
}

// ReadFile returns the bytes of the file at path, for [Decode] and [At], with
// the errors of [DecodeFile].
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, MaxSize+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if len(data) > MaxSize {
		return nil, &Error{File: path, Msg: fmt.Sprintf("larger than %d bytes", MaxSize)}
	}
	return data, nil
}

// At blames a value of a document that [Decode] accepted. The value is named by
// its keys: "etcd.servers[1]". When it is not written in the document, the
// mistake is where the nearest value around it is.
func At(name string, data []byte, value, msg string) *Error {
	e := &Error{File: name, Msg: value + ": " + msg}
	file, err := parser.ParseBytes(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")), 0)
	if err != nil {
		return e
	}
	for at := value; at != ""; at = at[:max(strings.LastIndexAny(at, ".["), 0)] {
		path, err := yaml.PathString("$." + at)
		if err != nil {
			continue
		}
		if node, err := path.FilterFile(file); err == nil {
			pos := node.GetToken().Position
			e.Line, e.Column = pos.Line, pos.Column
			return e
		}
	}
	return e
}

// Decode decodes the one YAML or JSON document in data into the struct that
// into points to. The document's apiVersion must be [APIVersion] and its kind
// must be kind. Every mistake is an [*Error]; name is the file it is blamed on.
//
// The library panics over some documents, such as one with a tag before a value
// of another kind; that is a mistake in the file too.
func Decode(name string, data []byte, kind string, into any) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &Error{File: name, Msg: fmt.Sprintf("not understood: the YAML parser says %v", p)}
		}
	}()
	return decode(name, data, kind, into)
}

func decode(name string, data []byte, kind string, into any) error {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")) // a byte order mark is not part of the first key
	file, err := parser.ParseBytes(data, 0)
	if err != nil {
		return locate(name, err)
	}
	doc, err := onlyDocument(name, file)
	if err != nil {
		return err
	}
	if err := checkHeader(name, doc, kind); err != nil {
		return err
	}
	d := yaml.NewDecoder(bytes.NewReader(data), yaml.Strict())
	if err := d.Decode(into); err != nil {
		return locate(name, err)
	}
	return nil
}

// onlyDocument returns the body of the file's single document.
func onlyDocument(name string, file *ast.File) (ast.Node, error) {
	var body ast.Node
	for _, doc := range file.Docs {
		if doc.Body == nil || doc.Body.Type() == ast.CommentType {
			continue
		}
		if body != nil {
			pos := doc.Body.GetToken().Position
			return nil, &Error{File: name, Line: pos.Line, Column: pos.Column, Msg: "a second document: only one is read"}
		}
		body = doc.Body
	}
	if body == nil || body.Type() == ast.NullType {
		return nil, &Error{File: name, Msg: "empty: want a document with apiVersion: " + APIVersion}
	}
	return body, nil
}

// checkHeader compares apiVersion and kind before anything else is decoded, so
// that a file of another kind is called that and not "unknown field".
func checkHeader(name string, doc ast.Node, kind string) error {
	var h Header
	if err := yaml.NodeToValue(doc, &h); err != nil {
		return locate(name, err)
	}
	for _, f := range []struct{ key, got, want string }{
		{"apiVersion", h.APIVersion, APIVersion},
		{"kind", h.Kind, kind},
	} {
		if f.got == f.want {
			continue
		}
		e := &Error{File: name, Line: 1, Column: 1, Msg: fmt.Sprintf("%s: got %q, want %q", f.key, f.got, f.want)}
		if line, col, ok := valuePosition(doc, f.key); ok {
			e.Line, e.Column = line, col
		}
		return e
	}
	return nil
}

// valuePosition finds where the value of a top-level key stands.
func valuePosition(doc ast.Node, key string) (line, column int, ok bool) {
	m, isMap := doc.(*ast.MappingNode)
	if !isMap {
		return 0, 0, false
	}
	for _, v := range m.Values {
		if v.Key.String() == key {
			pos := v.Value.GetToken().Position
			return pos.Line, pos.Column, true
		}
	}
	return 0, 0, false
}

// locate turns an error of the YAML library into an [*Error].
func locate(name string, err error) error {
	var ye yaml.Error
	if errors.As(err, &ye) && ye.GetToken() != nil {
		pos := ye.GetToken().Position
		return &Error{File: name, Line: pos.Line, Column: pos.Column, Msg: firstLine(ye.GetMessage())}
	}
	return &Error{File: name, Msg: firstLine(err.Error())}
}

func firstLine(s string) string {
	s, _, _ = strings.Cut(strings.TrimSpace(s), "\n")
	return s
}
