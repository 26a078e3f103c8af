package main

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/imgctl/imgctl/pkg/bundle/secrets"
)

// findNoSecrets is "nosecrets PATH…": nothing in the files and directories looks
// like a secret, or is one of those that the session's secrets directory, its key
// and its environment hold. With "!" something does, in every one of them.
func findNoSecrets(t *testing.T) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		known := knownSecrets(t, ts)
		for _, arg := range args {
			files, found := 0, ""
			ts.Check(filepath.WalkDir(ts.MkAbs(arg), func(path string, e fs.DirEntry, err error) error {
				if err != nil || e.IsDir() {
					return err
				}
				body, err := os.ReadFile(path)
				if isProgram(path, body) {
					return err
				}
				if f := secrets.Find(body, known...); f != nil {
					found = path + ": " + f.String()
				}
				files++
				return err
			}))
			if (found != "") != neg {
				ts.Fatalf("%s: %d files, found %q, want a secret: %t", arg, files, found, neg)
			}
			ts.Logf("%s: %d files", arg, files)
		}
	}
}

// knownSecrets are those that only this session knows.
func knownSecrets(t *testing.T, ts *testscript.TestScript) []string {
	known := []string{ts.Getenv("IMGCTL_KEY_PASSWORD"), ts.Getenv("CANARY")}
	for _, dir := range []string{"secrets", "release.key"} {
		err := filepath.WalkDir(ts.MkAbs(dir), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			body, err := os.ReadFile(path)
			known = append(known, secretsOf(t, body)...)
			return err
		})
		ts.Check(err)
	}
	return known
}

// isProgram tells what is made of programs: the layers of images and the archives
// in the cache. Their bytes are random, so that some of them look like anything.
func isProgram(path string, body []byte) bool {
	packed := bytes.HasPrefix(body, []byte{0x1f, 0x8b}) || bytes.HasPrefix(body, []byte{0x28, 0xb5, 0x2f, 0xfd}) || bytes.HasPrefix(body, []byte("!<arch>"))
	return packed && !strings.Contains(path, "bundle") && !strings.Contains(path, "media")
}
