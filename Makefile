# A list of what CI does. Every line also works typed by hand.

GO       ?= go
FUZZTIME ?= 10s
RACE     ?= -race

# What the end-to-end tests run beside what they compile: names of Debian
# packages, and the programs that show whether they are there.
E2E_PACKAGES = podman containerd runc conmon skopeo qemu-system-arm qemu-system-x86 e2fsprogs mmdebstrap rootlesskit uidmap qemu-user-static binfmt-support softhsm2 opensc time \
	containernetworking-plugins iproute2 systemd
E2E_PROGRAMS = podman containerd runc conmon skopeo qemu-system-aarch64 qemu-system-x86_64 mke2fs mmdebstrap rootlesskit newuidmap qemu-aarch64-static update-binfmts softhsm2-util pkcs11-tool /usr/bin/time \
	/usr/lib/cni/bridge ip systemd-analyze

.DEFAULT_GOAL := help

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## Compile imgctl into bin/
	$(GO) build -trimpath -o bin/ ./cmd/imgctl

.PHONY: check
check: fmt vet lint docs-check vuln ## Everything that can be said without running the program

.PHONY: fmt
fmt: ## Is every file formatted?
	@unformatted=$$(gofmt -l .); if [ -n "$$unformatted" ]; then echo "not gofmt-ed:"; echo "$$unformatted"; exit 1; fi

.PHONY: vet
vet: ## go vet, also of the end-to-end tests, of every key service and, with a C compiler, of PKCS #11
	$(GO) vet ./...
	$(GO) vet -tags 'kms_aws kms_azure kms_gcp kms_hashivault' ./pkg/sign
	$(GO) vet -tags 'e2e measure' ./e2e
	@if [ "$$($(GO) env CGO_ENABLED)" = 1 ]; then echo "$(GO) vet -tags pkcs11 ./pkg/sign"; $(GO) vet -tags pkcs11 ./pkg/sign; \
	else echo "go vet -tags pkcs11: not run, no C compiler"; fi

.PHONY: lint
lint: ## staticcheck, at the version in go.mod
	$(GO) tool staticcheck ./...
	$(GO) tool staticcheck -tags 'e2e measure' ./e2e

.PHONY: docs
docs: ## Write the pages that are made from the code
	$(GO) run ./cmd/imgctl docs docs

.PHONY: docs-check
docs-check: ## Are those pages what the code says?
	@made=$$(mktemp -d) && trap 'rm -rf "$$made"' EXIT && $(GO) run ./cmd/imgctl docs "$$made" && \
	diff -r "$$made/cli" docs/cli && diff "$$made/exit-codes.md" docs/exit-codes.md && diff "$$made/owners.md" docs/owners.md && diff "$$made/files.md" docs/files.md || \
	{ echo "docs: they differ from the code; make docs writes them"; exit 1; }

.PHONY: vuln
vuln: ## Known vulnerabilities in what is called, where their database can be asked
	@if curl -sfo /dev/null -m 10 https://vuln.go.dev/index/db.json; then \
		$(GO) run golang.org/x/vuln/cmd/govulncheck@v1.9.0 ./...; \
	else echo "govulncheck: not run, https://vuln.go.dev does not answer from here"; fi

.PHONY: test
test: ## The fast tests: no network, no root, Go alone
	$(GO) test ./...

.PHONY: race
race: ## The same with the race detector (needs a C compiler)
	$(GO) test $(RACE) ./...

.PHONY: fuzz
fuzz: ## Every fuzz target for FUZZTIME (10s)
	@for p in $$($(GO) list ./...); do \
		for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do \
			echo "$$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) $$p || exit 1; \
		done; \
	done

.PHONY: mutants
mutants: ## Does a test notice each way to break the verifier? (a quarter of an hour)
	$(GO) run ./tools/mutants

.PHONY: bench
bench: ## Speed and memory
	$(GO) test -run '^$$' -bench . -benchmem ./...

# The minors that lint knows; each has a module of its own beside tools/kubeflags.
KUBE_MINORS = 1.34 1.35 1.36 1.37

.PHONY: kubeflags
kubeflags: ## Write the tables of Kubernetes' flags again (compiles each minor: minutes, 2 GB of memory)
	@for m in $(KUBE_MINORS); do \
		table=$(CURDIR)/pkg/bundle/flags/tables/v$$m.tsv; \
		(cd tools/kubeflags && CGO_ENABLED=0 $(GO) run -modfile=$$m.mod -trimpath -ldflags '-s -w' .) >$$table.new && mv $$table.new $$table || exit 1; \
	done

.PHONY: imgctl-image
imgctl-image: ## The image of imgctl itself, for both platforms, into dist/imgctl
	@for arch in amd64 arm64; do \
		CGO_ENABLED=0 GOOS=linux GOARCH=$$arch $(GO) build -trimpath -buildvcs=false -ldflags '-s -w' -o images/imgctl/imgctl-$$arch ./cmd/imgctl || exit 1; \
	done
	$(GO) run ./cmd/imgctl lock images/imgctl
	$(GO) run ./cmd/imgctl build images/imgctl -o dist/imgctl

.PHONY: demo
demo: ## A real kubelet becomes an image and a bundle on two registries, then one of them dies
	@$(GO) build -o bin/ ./internal/demo
	@bin/demo

.PHONY: e2e
e2e: e2e-packages ## cosign, podman, skopeo, crane and an arm64 kernel judge a real release (root, Debian)
	$(GO) test -tags e2e -count=1 -timeout 80m -v ./e2e

.PHONY: e2e-packages
e2e-packages:
	@for p in $(E2E_PROGRAMS); do command -v $$p >/dev/null || missing="$$missing $$p"; done; \
	if [ -n "$$missing" ]; then echo "installing, for$$missing: $(E2E_PACKAGES)"; \
		apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $(E2E_PACKAGES); fi

.PHONY: clean
clean: ## Remove what make build and imgctl leave in the checkout; caches stay
	rm -rf bin dist
