// Command kubeflags writes which command-line flags the components of one
// Kubernetes minor have, as they are in the option structs of the components
// themselves. Which minor is decided by the module file that it is run with:
//
//	go run -modfile=1.36.mod . >…/v1.36.tsv
package main

import (
	"bufio"
	"cmp"
	"fmt"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	cliflag "k8s.io/component-base/cli/flag"
	"k8s.io/component-base/cli/globalflag"
	"k8s.io/component-base/logs"
	_ "k8s.io/component-base/logs/json/register" // --logging-format=json has flags of its own
	"k8s.io/component-base/version/verflag"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app/options"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app/options"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "kubeflags:", err)
		os.Exit(1)
	}
}

func run() error {
	version, err := kubernetes()
	if err != nil {
		return err
	}
	out := bufio.NewWriter(os.Stdout)
	fmt.Fprintf(out, "# Flags of Kubernetes %s, made by tools/kubeflags from the option structs: make kubeflags.\n", version)
	fmt.Fprintf(out, "# component\tflag\ttype\tdefault\tvalue when none is given\thidden\tdeprecated\n")
	sets := make(map[string]*pflag.FlagSet)
	// The controller manager comes first: that of some versions sets the default of
	// a feature gate, which it may not do once another has made flags of them.
	for _, c := range []struct {
		name  string
		flags func(*pflag.FlagSet) error
	}{
		{"kube-controller-manager", kcmFlags},
		{"kube-apiserver", apiserverFlags},
		{"kube-scheduler", schedulerFlags},
		{"kubelet", kubeletFlags},
	} {
		fs := pflag.NewFlagSet(c.name, pflag.ContinueOnError)
		fs.SetNormalizeFunc(cliflag.WordSepNormalizeFunc)
		if err := c.flags(fs); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
		sets[c.name] = fs
	}
	for _, name := range slices.Sorted(maps.Keys(sets)) {
		write(out, name, sets[name])
	}
	return out.Flush()
}

// kubernetes returns the version of the module that this program was built with.
func kubernetes() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", fmt.Errorf("read build info: this program has none")
	}
	for _, m := range info.Deps {
		if m.Path == "k8s.io/kubernetes" {
			return m.Version, nil
		}
	}
	return "", fmt.Errorf("read build info: k8s.io/kubernetes is not in it")
}

func apiserverFlags(fs *pflag.FlagSet) error {
	addAll(fs, apiserver.NewServerRunOptions().Flags())
	return nil
}

func kcmFlags(fs *pflag.FlagSet) error {
	o, err := kcm.NewKubeControllerManagerOptions()
	if err != nil {
		return err
	}
	addAll(fs, o.Flags(nil, nil, nil)) // the controllers' names are in the help text alone
	return nil
}

func schedulerFlags(fs *pflag.FlagSet) error {
	addAll(fs, *scheduler.NewOptions().Flags)
	return nil
}

// addAll adds what the three servers add in their NewCommand functions.
func addAll(fs *pflag.FlagSet, sets cliflag.NamedFlagSets) {
	verflag.AddFlags(sets.FlagSet("global"))
	globalflag.AddGlobalFlags(sets.FlagSet("global"), fs.Name(), logs.SkipLoggingConfigurationFlags())
	for _, set := range sets.FlagSets {
		fs.AddFlagSet(set)
	}
}

func kubeletFlags(fs *pflag.FlagSet) error {
	config, err := kubelet.NewKubeletConfiguration()
	if err != nil {
		return err
	}
	kubelet.NewKubeletFlags().AddFlags(fs)
	kubelet.AddKubeletConfigFlags(fs, config)
	kubelet.AddGlobalFlags(fs)
	fs.BoolP("help", "h", false, "") // app.NewKubeletCommand adds it
	return nil
}

// write prints one line a flag, by name.
func write(out *bufio.Writer, component string, fs *pflag.FlagSet) {
	var flags []*pflag.Flag
	fs.VisitAll(func(f *pflag.Flag) { flags = append(flags, f) })
	slices.SortFunc(flags, func(a, b *pflag.Flag) int { return cmp.Compare(a.Name, b.Name) })
	for _, f := range flags {
		hidden := ""
		if f.Hidden && f.Deprecated == "" {
			hidden = "hidden"
		}
		columns := []string{component, f.Name, f.Value.Type(), f.DefValue, f.NoOptDefVal, hidden, f.Deprecated}
		for i, c := range columns {
			columns[i] = strings.Join(strings.Fields(c), " ")
		}
		fmt.Fprintln(out, strings.TrimRight(strings.Join(columns, "\t"), "\t"))
	}
}
