package flags

import (
	"embed"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// tables has one file a minor, made by tools/kubeflags; see its second line for the columns.
//
//go:embed tables/*.tsv
var tables embed.FS

// components are those that the tables have.
var components = []string{"kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet"}

// table has the flags of one component of one minor.
type table struct {
	component string
	minor     string // "v1.36"
	flags     map[string]flag
}

// flag is one line of a table.
type flag struct {
	name, kind, value string // value is the default
	bare              string // what it means without a value; empty when it needs one
	hidden            bool
	deprecated        string // why, and what instead
}

// Minors returns the versions that there are tables of, ascending: "v1.34".
func Minors() []string {
	entries, err := tables.ReadDir("tables")
	if err != nil {
		return nil // the directory is part of the program
	}
	var minors []string
	for _, e := range entries {
		minors = append(minors, strings.TrimSuffix(e.Name(), ".tsv"))
	}
	slices.SortFunc(minors, compareMinors)
	return minors
}

// load returns the table of a component.
func load(component, version string) (*table, error) {
	if !slices.Contains(components, component) {
		return nil, fmt.Errorf("no table of the flags of %q, only of %s", component, strings.Join(components, ", "))
	}
	if err := Known(version); err != nil {
		return nil, err
	}
	return read(component, semver.MajorMinor(version))
}

// Known reports why [Check] cannot judge command lines of a version of Kubernetes.
func Known(version string) error {
	v, err := parseVersion(version)
	if err != nil {
		return err
	}
	if !slices.Contains(Minors(), v.minorName()) {
		return fmt.Errorf("no table of the flags of Kubernetes %s, only of %s", v.minorName(), strings.Join(Minors(), ", "))
	}
	return nil
}

// read parses the lines of a component; minor is one of [Minors].
func read(component, minor string) (*table, error) {
	data, err := tables.ReadFile(path.Join("tables", minor+".tsv"))
	if err != nil {
		return nil, err
	}
	t := &table{component: component, minor: minor, flags: make(map[string]flag)}
	for line := range strings.Lines(string(data)) {
		rest, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), component+"\t")
		if !ok {
			continue
		}
		c := append(strings.Split(rest, "\t"), "", "", "", "", "")
		t.flags[c[0]] = flag{name: c[0], kind: c[1], value: c[2], bare: c[3], hidden: c[4] != "", deprecated: c[5]}
	}
	return t, nil
}

// history says when a flag that the table does not have was there, or will be.
func (t *table) history(name string) string {
	minors := Minors()
	at := slices.Index(minors, t.minor)
	for i := at - 1; i >= 0; i-- {
		if has(t.component, minors[i], name) {
			return "removed in " + minors[i+1][1:]
		}
	}
	for i := at + 1; i < len(minors); i++ {
		if has(t.component, minors[i], name) {
			return "new in " + minors[i][1:]
		}
	}
	if t.component == "kubelet" && slices.Contains(goneFromKubelet, name) {
		return "removed before " + minors[0][1:]
	}
	return ""
}

func has(component, minor, name string) bool {
	t, err := read(component, minor)
	if err != nil {
		return false
	}
	_, ok := t.flags[name]
	return ok
}

// collects tells whether each further value is added to those before.
func (f flag) collects() bool {
	for _, part := range []string{"map", "Multimap", "Slice", "Array", "stringToString", "namedCertKey", "pattern=N", "[]", "reserved-memory"} {
		if strings.Contains(f.kind, part) {
			return true
		}
	}
	return false
}

// check reports a value that the flag's type does not take.
func (f flag) check(value string) error {
	var err error
	want := f.kind
	switch f.kind {
	case "bool":
		_, err = strconv.ParseBool(value)
		want = "true or false"
	case "duration":
		_, err = time.ParseDuration(value)
		want = "a duration with its unit, such as 10s"
	case "int", "int32", "int64":
		_, err = strconv.ParseInt(value, 0, bits(f.kind))
		want = "a whole number"
	case "uint", "uint8", "uint16", "uint32", "uint64":
		_, err = strconv.ParseUint(value, 0, bits(f.kind))
		want = "a whole number, not negative"
	case "float32", "float64":
		_, err = strconv.ParseFloat(value, bits(f.kind))
		want = "a number"
	case "ip":
		_, err = netip.ParseAddr(value)
		want = "an IP address"
	case "mapStringBool":
		err = checkPairs(value)
		want = "NAME=true or NAME=false, with commas between"
	}
	if err != nil {
		return fmt.Errorf("got %.100q, want %s", value, want)
	}
	return nil
}

// bits is the size in the name of a type, 64 where there is none.
func bits(kind string) int {
	if n, err := strconv.Atoi(strings.TrimLeft(kind, "abcdefghijklmnopqrstuvwxyz")); err == nil {
		return n
	}
	return 64
}

func checkPairs(value string) error {
	for pair := range strings.SplitSeq(value, ",") {
		if pair == "" {
			continue
		}
		_, v, _ := strings.Cut(pair, "=")
		if _, err := strconv.ParseBool(strings.TrimSpace(v)); err != nil {
			return err
		}
	}
	return nil
}
