// Command snippets is what reads the snippets of examples: it translates Butane
// to Ignition as Typhoon's Terraform modules do, merges it into a machine's
// configuration, and parses Terraform. Anything that is worth a warning is an error.
//
//	snippets FILE.bu…     the merged Ignition configuration goes to stdout
//	snippets FILE.tf…     nothing is printed
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/coreos/butane/config"
	"github.com/coreos/butane/config/common"
	"github.com/coreos/ignition/v2/config/v3_5"
	"github.com/coreos/ignition/v2/config/v3_5/types"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "snippets:", err)
		os.Exit(1)
	}
}

func run(files []string) error {
	merged, found := types.Config{Ignition: types.Ignition{Version: types.MaxVersion.String()}}, false
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		if filepath.Ext(file) == ".tf" {
			if _, problems := hclsyntax.ParseConfig(data, file, hcl.InitialPos); len(problems) > 0 {
				return problems
			}
			continue
		}
		one, err := translate(data)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		merged, found = v3_5.Merge(merged, one), true
	}
	if !found {
		return nil
	}
	return json.NewEncoder(os.Stdout).Encode(merged)
}

// translate makes Ignition of Butane, and reads that as a machine does.
func translate(data []byte) (types.Config, error) {
	text, problems, err := config.TranslateBytes(data, common.TranslateBytesOptions{})
	if err != nil {
		return types.Config{}, fmt.Errorf("%w: %s", err, problems.String())
	}
	if len(problems.Entries) > 0 {
		return types.Config{}, errors.New(problems.String())
	}
	one, problems, err := v3_5.ParseCompatibleVersion(text)
	if err != nil {
		return types.Config{}, fmt.Errorf("%w: %s", err, problems.String())
	}
	if len(problems.Entries) > 0 {
		return types.Config{}, errors.New(problems.String())
	}
	return one, nil
}
