package inspect

import (
	"debug/elf"
	"strings"
	"testing"
)

// missingIn returns what programs of the image lack, as "path name".
func missingIn(f *FS) []string {
	var lacks []string
	for _, v := range f.Check(Gates{}, Expect{Architecture: "amd64"}) {
		if v.Gate == GateMissingLibraries {
			lacks = append(lacks, strings.TrimSuffix(v.Path+" "+v.Detail, ", which is not found"))
		}
	}
	return lacks
}

func TestLibrariesAreFoundAsTheLinkerDoes(t *testing.T) {
	const multiarch = "usr/lib/x86_64-linux-gnu/"
	linker := []item{link("lib", "usr/lib"), link("lib64", "usr/lib64"), program("usr/lib64/ld-linux-x86-64.so.2", library("ld-linux-x86-64.so.2"))}
	with := func(path string, fill func(*ELF)) item {
		return program(path, amd64(func(e *ELF) {
			e.Interpreter = interpreter
			fill(e)
		}))
	}
	libA := func(path string) item { return file(path, library("liba.so.1")) }
	needsA := func(e *ELF) { e.Needed = []string{"liba.so.1"} }
	const lacksA = "/bin/x needs liba.so.1"
	for name, tt := range map[string]struct {
		items []item
		want  string // "" for nothing
	}{
		"nothing needed":           {[]item{with("bin/x", func(*ELF) {})}, ""},
		"nowhere":                  {[]item{with("bin/x", needsA)}, lacksA},
		"/usr/lib/multiarch":       {[]item{with("bin/x", needsA), libA(multiarch + "liba.so.1")}, ""},
		"/usr/lib":                 {[]item{with("bin/x", needsA), libA("usr/lib/liba.so.1")}, ""},
		"elsewhere":                {[]item{with("bin/x", needsA), libA("opt/liba.so.1")}, lacksA},
		"in the cache":             {[]item{with("bin/x", needsA), libA("opt/liba.so.1"), file("etc/ld.so.cache", linkerCacheOf("/opt/liba.so.1"))}, ""},
		"stale cache":              {[]item{with("bin/x", needsA), libA("opt/liba.so.2"), file("etc/ld.so.cache", linkerCacheOf("/opt/liba.so.1"))}, lacksA},
		"ld.so.conf alone":         {[]item{with("bin/x", needsA), libA("opt/liba.so.1"), file("etc/ld.so.conf", "/opt\n")}, lacksA},
		"by a link":                {[]item{with("bin/x", needsA), file(multiarch+"liba.so.1.2", library("liba.so.1")), link(multiarch+"liba.so.1", "liba.so.1.2")}, ""},
		"by a dangling link":       {[]item{with("bin/x", needsA), link(multiarch+"liba.so.1", "liba.so.1.2")}, lacksA},
		"a text":                   {[]item{with("bin/x", needsA), file(multiarch+"liba.so.1", "GROUP ( liba.so )")}, lacksA},
		"of 32 bits":               {[]item{with("bin/x", needsA), file(multiarch+"liba.so.1", amd64(func(e *ELF) { e.Class = elf.ELFCLASS32 }))}, lacksA},
		"an object file":           {[]item{with("bin/x", needsA), file(multiarch+"liba.so.1", amd64(func(e *ELF) { e.Type = elf.ET_REL }))}, lacksA},
		"RPATH":                    {[]item{with("bin/x", func(e *ELF) { needsA(e); e.RPath = "/none:/opt" }), libA("opt/liba.so.1")}, ""},
		"RUNPATH":                  {[]item{with("bin/x", func(e *ELF) { needsA(e); e.RunPath = "/opt/" }), libA("opt/liba.so.1")}, ""},
		"RUNPATH hides RPATH":      {[]item{with("bin/x", func(e *ELF) { needsA(e); e.RunPath, e.RPath = "/none", "/opt" }), libA("opt/liba.so.1")}, lacksA},
		"RUNPATH to a link":        {[]item{with("bin/x", func(e *ELF) { needsA(e); e.RunPath = "/l" }), libA("opt/liba.so.1"), link("l", "opt")}, ""},
		"relative RUNPATH":         {[]item{with("bin/x", func(e *ELF) { needsA(e); e.RunPath = "opt" }), libA("opt/liba.so.1")}, lacksA},
		"$ORIGIN":                  {[]item{with("bin/x", func(e *ELF) { needsA(e); e.RunPath = "$ORIGIN/../opt" }), libA("opt/liba.so.1")}, ""},
		"${ORIGIN}":                {[]item{with("bin/x", func(e *ELF) { needsA(e); e.RunPath = "${ORIGIN}" }), libA("bin/liba.so.1")}, ""},
		"$LIB and $PLATFORM":       {[]item{with("bin/x", func(e *ELF) { needsA(e); e.RunPath = "/opt/$LIB/${PLATFORM}" }), libA("opt/lib/x86_64-linux-gnu/x86_64/liba.so.1")}, ""},
		"by path":                  {[]item{with("bin/x", func(e *ELF) { e.Needed = []string{"/opt/a"} }), libA("opt/a")}, ""},
		"by path, gone":            {[]item{with("bin/x", func(e *ELF) { e.Needed = []string{"/opt/a"} })}, "/bin/x needs /opt/a"},
		"by path from $ORIGIN":     {[]item{with("bin/x", func(e *ELF) { e.Needed = []string{"$ORIGIN/a"} }), libA("bin/a")}, ""},
		"RPATH for all":            {[]item{with("bin/x", func(e *ELF) { e.Needed, e.RPath = []string{"/opt/b"}, "/opt" }), file("opt/b", library("b", "liba.so.1")), libA("opt/liba.so.1")}, ""},
		"RUNPATH for one":          {[]item{with("bin/x", func(e *ELF) { e.Needed, e.RunPath = []string{"/opt/b"}, "/opt" }), file("opt/b", library("b", "liba.so.1")), libA("opt/liba.so.1")}, "/opt/b needs liba.so.1, which is not found, when /bin/x starts"},
		"loaded before":            {[]item{with("bin/x", func(e *ELF) { e.Needed = []string{"/opt/a", "/opt/b"} }), file("opt/b", library("b", "liba.so.1")), libA("opt/a")}, ""},
		"library alone":            {[]item{file(multiarch+"b", library("b", "liba.so.1"))}, "/usr/lib/x86_64-linux-gnu/b needs liba.so.1"},
		"library alone, fine":      {[]item{file(multiarch+"b", library("b", "liba.so.1")), libA(multiarch + "liba.so.1")}, ""},
		"two that need each other": {[]item{file(multiarch+"liba.so.1", library("liba.so.1", "b")), file(multiarch+"b", library("b", "liba.so.1"))}, ""},
		"damaged cache":            {[]item{with("bin/x", func(*ELF) {}), file("etc/ld.so.cache", "x")}, "/etc/ld.so.cache not a cache of the dynamic linker of glibc 2.32 or later"},
		"static":                   {[]item{program("bin/x", amd64(func(e *ELF) { e.Type = elf.ET_EXEC }))}, ""},
	} {
		got := strings.Join(missingIn(read(t, append(linker, tt.items...))), "; ")
		if got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

func TestInterpretersMustBeThere(t *testing.T) {
	ld := program("lib64/ld-linux-x86-64.so.2", library("ld-linux-x86-64.so.2"))
	for name, tt := range map[string]struct {
		items []item
		want  string
	}{
		"linker":           {[]item{program("x", dynamic()), ld}, ""},
		"no linker":        {[]item{program("x", dynamic())}, "/x dynamic linker /lib64/ld-linux-x86-64.so.2: file does not exist"},
		"foreign linker":   {[]item{program("x", dynamic()), program("lib64/ld-linux-x86-64.so.2", amd64(func(e *ELF) { e.Machine = elf.EM_AARCH64 }))}, "/x dynamic linker /lib64/ld-linux-x86-64.so.2: not a program for EM_X86_64"},
		"script":           {[]item{program("x", "#!/bin/sh"), program("bin/sh", "")}, ""},
		"script, linked":   {[]item{program("x", "#!/bin/sh"), program("usr/bin/dash", ""), link("bin", "usr/bin"), link("usr/bin/sh", "dash")}, ""},
		"no shell":         {[]item{program("x", "#!/bin/sh\n")}, "/x script for /bin/sh"},
		"shell not to run": {[]item{program("x", "#!/bin/sh\n"), file("bin/sh", "")}, "/x script for /bin/sh"},
		"env":              {[]item{program("x", "#!/usr/bin/env py\n"), program("usr/local/bin/py", "")}, ""},
		"env, none":        {[]item{program("x", "#!/usr/bin/env py\n"), program("opt/py", "")}, "/x script for py"},
		"env -S":           {[]item{program("x", "#!/usr/bin/env -S py -x\n"), program("usr/bin/env", "")}, ""},
		"relative":         {[]item{program("x", "#!bin/sh\n"), program("bin/sh", "")}, "/x script for bin/sh"},
		"empty":            {[]item{program("x", "#! \n")}, ""},
	} {
		if got := strings.Join(missingIn(read(t, tt.items)), "; "); got != tt.want {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}
