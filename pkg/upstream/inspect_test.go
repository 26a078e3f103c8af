package upstream_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/imgctl/imgctl/internal/imgtest"
	"github.com/imgctl/imgctl/pkg/upstream"
)

func write(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubelet")
	must(t, os.WriteFile(path, data, 0o644))
	return path
}

// U11
func TestCheckELFComparesTheMachine(t *testing.T) {
	amd64 := write(t, imgtest.Program("kubelet", "amd64", version, 1000))
	arm64 := write(t, imgtest.Program("kubelet", "arm64", version, 1000))
	must(t, upstream.CheckELF(amd64, "amd64"))
	must(t, upstream.CheckELF(arm64, "arm64"))
	err := upstream.CheckELF(amd64, "arm64")
	if err == nil || !strings.Contains(err.Error(), "got EM_X86_64, want EM_AARCH64 (arm64)") {
		t.Errorf("got %v, want both machines", err)
	}
	object := imgtest.Program("kubelet", "amd64", version, 1000)
	object[16] = 1 // ET_REL
	for name, path := range map[string]string{
		"object file": write(t, object),
		"script":      write(t, []byte("#!/bin/sh\n")),
		"short":       write(t, object[:20]),
		"empty":       write(t, nil),
		"absent":      filepath.Join(t.TempDir(), "kubelet"),
	} {
		if err := upstream.CheckELF(path, "amd64"); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if err := upstream.CheckELF(amd64, "z80"); err == nil || !strings.Contains(err.Error(), `"z80"`) {
		t.Errorf("got %v", err)
	}
}

func TestCheckVersionFindsTheStamp(t *testing.T) {
	path := write(t, imgtest.Program("kubelet", "amd64", version, 1000))
	must(t, upstream.CheckVersion(path, version))
	err := upstream.CheckVersion(path, "v1.36.3")
	if err == nil || !strings.Contains(err.Error(), "got v1.36.2, want v1.36.3") {
		t.Errorf("got %v, want both versions", err)
	}
	for name, data := range map[string]string{
		"nothing":            "",
		"only the start":     "\x00v1.36.2-rc.1\x00",
		"only the end":       "\x00xv1.36.2\x00",
		"module and version": "\x00k8s.io/kubernetes@v1.36.2\x00",
		"not terminated":     "\x00v1.36.2 ",
		"in a dirty build":   "\x00v1.36.2-dirty\x00",
	} {
		if err := upstream.CheckVersion(write(t, []byte(data)), version); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	err = upstream.CheckVersion(write(t, []byte("\x00v1.36.2-dirty\x00\x00v1.35.0\x00")), version)
	if err == nil || !strings.Contains(err.Error(), "got v1.35.0, v1.36.2-dirty, want") {
		t.Errorf("got %v, want what is there", err)
	}
	if err := upstream.CheckVersion(write(t, []byte("text")), version); err == nil || !strings.Contains(err.Error(), "got none") {
		t.Errorf("got %v", err)
	}
}

// The file is read in pieces: a stamp across their border is found.
func TestCheckVersionFindsAStampAnywhere(t *testing.T) {
	stamp := []byte("\x00" + version + "\x00")
	for _, at := range []int{1, 1<<20 - 3, 1 << 20, 1<<20 + 60, 1<<20 + 64, 2<<20 - 1, 2<<20 + 63} {
		data := append(bytes.Repeat([]byte{0xcc}, at), stamp...)
		must(t, upstream.CheckVersion(write(t, data), version))
		err := upstream.CheckVersion(write(t, append(data, 0xcc)), "v9.9.9")
		if err == nil || !strings.Contains(err.Error(), "got v1.36.2") {
			t.Errorf("at %d: got %v", at, err)
		}
	}
}
