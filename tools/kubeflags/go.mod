// Only the root of the four modules 1.34.mod to 1.37.mod beside it, each of which
// is used by go run -modfile=…: the option structs of the minors differ.
module github.com/imgctl/imgctl/tools/kubeflags

go 1.26.0
