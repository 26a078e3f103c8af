package buildkit

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client/llb"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/imgctl/imgctl/pkg/build/rootfs"
)

// Where the steps find what they work on. A worker removes these mounts after each step.
const (
	debsDir = "/run/imgctl/packages"
	dataDir = "/run/imgctl/data"
)

// graph is what a worker is asked to do for one platform, and the files for it.
type graph struct {
	platform v1.Platform
	mounts   map[string]uploads // by the name of the llb.Local
}

func newGraph(p v1.Platform) *graph {
	return &graph{platform: p, mounts: make(map[string]uploads)}
}

// marshal returns the definition of s. It depends on nothing but the inputs: a
// worker which has done the same before does nothing. That holds for the files,
// too, as the names in an upload say what is in them.
func (g *graph) marshal(ctx context.Context, s llb.State) (*llb.Definition, error) {
	names := sha256.New()
	for _, name := range slices.Sorted(maps.Keys(g.mounts)) {
		fmt.Fprintln(names, name)
		for _, u := range g.mounts[name] {
			fmt.Fprintln(names, u.name)
		}
	}
	p := ocispec.Platform{OS: g.platform.OS, Architecture: g.platform.Architecture, Variant: g.platform.Variant}
	return s.Marshal(ctx, llb.Platform(p), llb.LocalUniqueID(hex.EncodeToString(names.Sum(nil))))
}

// local is a directory of files that the worker fetches from us. Platforms have
// theirs each: a worker keeps what it was given last under a name.
func (g *graph) local(name string, files uploads) llb.State {
	name += "-" + g.platform.OS + "-" + g.platform.Architecture
	g.mounts[name] = files
	return llb.Local(name, llb.SharedKeyHint(name), llb.WithCustomName("fetch "+name))
}

// system is the layer of packages: a root file system made by dpkg and the
// packages' own scripts, then what the spec asks for.
func (g *graph) system(cfg rootfs.Config, p *plan, essential upload) (llb.State, error) {
	values, err := newLists(cfg, p)
	if err != nil {
		return llb.State{}, err
	}
	data, err := values.state()
	if err != nil {
		return llb.State{}, err
	}
	var debs uploads
	for _, d := range slices.Concat(append(p.batches, p.essential)...) {
		debs = append(debs, upload{d.upload(), d.file})
	}
	steps := &steps{data: data, debs: g.local("packages", debs), epoch: cfg.Created}
	s := llb.Scratch().File(
		llb.Copy(g.local("essential", uploads{essential}), essential.name, "/", &llb.CopyInfo{AttemptUnpack: true}),
		llb.WithCustomNamef("unpack %d essential packages", len(p.essential)))
	s = steps.run(s, "install the essential packages", "essential.sh", debsDir, dataDir)
	for i, batch := range p.batches {
		s = steps.run(s, batchName(batch), "install.sh", debsDir, dataDir, batchList(i))
	}
	s = steps.run(s, "apply the spec", "spec.sh", dataDir)
	s = steps.run(s, "remove the traces of the build", "finish.sh", dataDir)
	return llb.Scratch().File(
		llb.Copy(s, "/", "/", &llb.CopyInfo{CopyDirContentsOnly: true}, llb.WithExcludePatterns([]string{"run/imgctl"})),
		llb.WithCustomName("squash")), nil
}

// bare is the layer of an image without packages: files of the spec, in an archive.
func (g *graph) bare(archive upload) llb.State {
	return llb.Scratch().File(
		llb.Copy(g.local("spec", uploads{archive}), archive.name, "/", &llb.CopyInfo{AttemptUnpack: true}),
		llb.WithCustomName("unpack the files of the spec"))
}

func batchName(batch []debian) string {
	if len(batch) == 1 {
		return "install " + batch[0].name
	}
	return fmt.Sprintf("install %d packages", len(batch))
}

// state is the lists and scripts as files.
func (l lists) state() (llb.State, error) {
	files := maps.Clone(l)
	all, err := scripts.ReadDir("scripts")
	if err != nil {
		return llb.State{}, err
	}
	for _, f := range all {
		text, err := scripts.ReadFile(path.Join("scripts", f.Name()))
		if err != nil {
			return llb.State{}, err
		}
		files[f.Name()] = string(text)
	}
	action := llb.Mkdir("/content", 0o755)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		action = action.Mkfile("/"+name, 0o644, []byte(files[name]))
	}
	return llb.Scratch().File(action, llb.WithCustomName("write down the spec")), nil
}

// steps run scripts in a root file system that is under construction.
type steps struct {
	data, debs llb.State
	epoch      time.Time
}

// run runs a script. It has no network: everything that goes into the image has
// been given to it.
func (x *steps) run(s llb.State, name, script string, args ...string) llb.State {
	env := []struct{ name, value string }{
		{"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		{"HOME", "/root"},
		{"LC_ALL", "C.UTF-8"},
		{"TZ", "UTC"},
		{"DEBIAN_FRONTEND", "noninteractive"},
		{"DEBCONF_NONINTERACTIVE_SEEN", "true"},
		{"SOURCE_DATE_EPOCH", strconv.FormatInt(x.epoch.Unix(), 10)},
	}
	for _, e := range env {
		s = s.AddEnv(e.name, e.value)
	}
	return s.Network(llb.NetModeNone).Run(
		llb.Args(append([]string{"/bin/sh", path.Join(dataDir, script)}, args...)),
		llb.AddMount(debsDir, x.debs, llb.Readonly),
		llb.AddMount(dataDir, x.data, llb.Readonly),
		llb.WithCustomName(name)).Root()
}

// program is a file of the image and the file that it is a copy of.
type program struct {
	upload upload
	path   string
	mode   os.FileMode
}

// programs is the layer of the files that no package brings, with the directories
// above them. Its times are 1970, so that it stays the same when only packages change.
func (g *graph) programs(files []program) llb.State {
	var all uploads
	for _, f := range files {
		all = append(all, f.upload)
	}
	from := g.local("programs", all)
	first := llb.WithCreatedTime(time.Unix(0, 0))
	root := &llb.ChownOpt{User: &llb.UserOpt{}, Group: &llb.UserOpt{}}
	action := llb.Mkdir("/", 0o755, llb.WithParents(true), first)
	for _, f := range files {
		action = action.Mkdir(path.Dir(f.path), 0o755, llb.WithParents(true), first).
			Copy(from, f.upload.name, f.path, &llb.CopyInfo{Mode: &llb.ChmodOpt{Mode: f.mode}, ChownOpt: root}, first)
	}
	return llb.Scratch().File(action, llb.WithCustomNamef("copy %d programs", len(files)))
}
