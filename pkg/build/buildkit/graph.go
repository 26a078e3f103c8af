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
	all, err := newLists(cfg, p)
	if err != nil {
		return llb.State{}, err
	}
	tasks := []task{{"install the essential packages", "essential.sh", all.pick("unpacked", "options", "essential", "passwd", "group"), p.essential}}
	for i, batch := range p.batches {
		tasks = append(tasks, task{batchName(batch), "install.sh", all.pick("options").with("batch", all[batchList(i)]), batch})
	}
	tasks = append(tasks,
		task{"apply the spec", "spec.sh", all.pick("directories", "files", "content/", "links", "alternatives"), nil},
		task{"remove the traces of the build", "finish.sh", all.pick("dpkg.cfg", "sweep"), nil})
	s := llb.Scratch().File(
		llb.Copy(g.local("essential", uploads{essential}), essential.name, "/", &llb.CopyInfo{AttemptUnpack: true}),
		llb.WithCustomNamef("unpack %d essential packages", len(p.essential)))
	for i, t := range tasks {
		if s, err = g.run(s, t, i, cfg.Created); err != nil {
			return llb.State{}, err
		}
	}
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

// task is a script, and all that it gets: what it does not get cannot be a reason
// to run it again.
type task struct {
	name   string // for people
	script string
	lists  lists
	debs   []debian
}

// state is the script and the lists as files.
func (t task) state() (llb.State, error) {
	text, err := scripts.ReadFile(path.Join("scripts", t.script))
	if err != nil {
		return llb.State{}, err
	}
	action := llb.Mkdir("/content", 0o755).Mkfile("/"+t.script, 0o644, text)
	for _, name := range slices.Sorted(maps.Keys(t.lists)) {
		action = action.Mkfile("/"+name, 0o644, []byte(t.lists[name]))
	}
	return llb.Scratch().File(action, llb.WithCustomName("write down how to "+t.name)), nil
}

// run runs a task in a root file system that is under construction. It has no
// network: everything that goes into the image has been given to it.
func (g *graph) run(s llb.State, t task, i int, epoch time.Time) (llb.State, error) {
	data, err := t.state()
	if err != nil {
		return llb.State{}, err
	}
	for _, e := range [][2]string{
		{"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		{"HOME", "/root"},
		{"LC_ALL", "C.UTF-8"},
		{"TZ", "UTC"},
		{"DEBIAN_FRONTEND", "noninteractive"},
		{"DEBCONF_NONINTERACTIVE_SEEN", "true"},
		{"SOURCE_DATE_EPOCH", strconv.FormatInt(epoch.Unix(), 10)},
	} {
		s = s.AddEnv(e[0], e[1])
	}
	options := []llb.RunOption{
		llb.Args([]string{"/bin/sh", path.Join(dataDir, t.script), dataDir, debsDir}),
		llb.AddMount(dataDir, data, llb.Readonly),
		llb.WithCustomName(t.name),
	}
	if len(t.debs) > 0 {
		var files uploads
		for _, d := range t.debs {
			files = append(files, upload{d.upload(), d.file})
		}
		options = append(options, llb.AddMount(debsDir, g.local("packages"+strconv.Itoa(i), files), llb.Readonly))
	}
	return s.Network(llb.NetModeNone).Run(options...).Root(), nil
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
