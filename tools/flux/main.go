// Command flux pulls an artifact and unpacks it, as Flux's own client does.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/oci"
	"github.com/google/go-containerregistry/pkg/crane"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "flux: want a reference and a directory")
		os.Exit(2)
	}
	meta, err := oci.NewClient([]crane.Option{crane.Insecure}).Pull(context.Background(), os.Args[1], os.Args[2])
	if err != nil {
		fmt.Fprintln(os.Stderr, "flux:", err)
		os.Exit(1)
	}
	fmt.Println(meta.Digest, meta.Revision)
}
