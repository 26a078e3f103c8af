package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/imgctl/imgctl/internal/strict"
)

// versionResult is what `imgctl version --json` prints.
type versionResult struct {
	strict.Header
	Version  string `json:"version"`            // of the module, or "devel"
	Commit   string `json:"commit,omitempty"`   // of the checkout it was built from
	Date     string `json:"date,omitempty"`     // of that commit, RFC 3339
	Modified bool   `json:"modified,omitempty"` // the checkout had uncommitted changes
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// develVersion is the version of a build that knows none.
const develVersion = "devel"

// readVersion takes everything from what the Go linker recorded, so that no
// build script has to pass it in.
func readVersion() versionResult {
	v := versionResult{Header: header("Version"), Version: develVersion, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v
	}
	if mv := info.Main.Version; mv != "" && mv != "(devel)" {
		v.Version = mv
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Commit = s.Value
		case "vcs.time":
			v.Date = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	return v
}

func newVersion(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of imgctl",
		Example: `  imgctl version
  imgctl version --json`,
		Args: exactArgs(0, "none"),
		RunE: func(*cobra.Command, []string) error {
			v := readVersion()
			if a.output == "json" {
				return printJSON(a.stdout, v)
			}
			fmt.Fprintf(a.stdout, "imgctl %s %s %s\n", v.Version, v.Go, v.Platform)
			return nil
		},
	}
}
