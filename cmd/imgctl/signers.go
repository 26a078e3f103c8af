package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/imgctl/imgctl/pkg/sign"
)

// signerFile is one signer of a release file: exactly one of its kinds.
type signerFile struct {
	Key *keyFile `yaml:"key"`
}

// keyFile is a key file and where its password comes from: never the file itself.
type keyFile struct {
	File     string     `yaml:"file"`
	Password secretFile `yaml:"password"`
}

// secretFile says where a secret is.
type secretFile struct {
	Env  string `yaml:"env"`
	File string `yaml:"file"`
}

func (s signerFile) check() error {
	if s.Key == nil || s.Key.File == "" {
		return errors.New("want key: {file: …}")
	}
	return nil
}

// String names the signer for a plan, which opens none.
func (s signerFile) String() string { return s.Key.File }

// openSigner opens a signer; path resolves the files that it names.
func (a *app) openSigner(s signerFile, path func(string) string) (sign.Signer, error) {
	file := s.Key.Password.File
	if file != "" {
		file = path(file)
	}
	password, err := a.password(file, cmp.Or(s.Key.Password.Env, passwordVariable))
	if err != nil {
		return nil, err
	}
	return loadKey(path(s.Key.File), password)
}

// loadKey opens an encrypted private key file.
func loadKey(path string, password sign.Secret) (sign.Signer, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, hint(fmt.Errorf("read key: %w", err), "imgctl keygen makes one")
	}
	key, err := sign.LoadKey(pem, password)
	if err != nil {
		return nil, usage(fmt.Errorf("%s: %w", path, err))
	}
	return key, nil
}

// signFormats are the layouts in which signatures are published.
type signFormats struct{ bundle, legacy bool }

// parseFormats parses "bundle" and "legacy"; none means both, so that readers of
// every age see a signature.
func parseFormats(names []string) (signFormats, error) {
	if len(names) == 0 {
		return signFormats{bundle: true, legacy: true}, nil
	}
	for i, n := range names {
		if n != "bundle" && n != "legacy" {
			return signFormats{}, fmt.Errorf("got %q, want bundle or legacy", n)
		}
		if slices.Contains(names[:i], n) {
			return signFormats{}, fmt.Errorf("%s is there twice", n)
		}
	}
	return signFormats{slices.Contains(names, "bundle"), slices.Contains(names, "legacy")}, nil
}
