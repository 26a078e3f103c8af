// Package buildkit makes images on BuildKit workers.
package buildkit

import (
	_ "github.com/moby/buildkit/client"
	_ "github.com/moby/buildkit/client/connhelper/dockercontainer"
	_ "github.com/moby/buildkit/client/connhelper/kubepod"
	_ "github.com/moby/buildkit/client/connhelper/podmancontainer"
	_ "github.com/moby/buildkit/client/connhelper/ssh"
	_ "github.com/moby/buildkit/client/llb"
	_ "github.com/moby/buildkit/exporter/containerimage/exptypes"
	_ "github.com/moby/buildkit/util/progress/progressui"
	_ "github.com/tonistiigi/fsutil"
)
