# The two that matter first: `make demo`, `make test`.
GO      ?= go
LINT    := bin/tools/golangci-lint
PURE    := CGO_ENABLED=0

.DEFAULT_GOAL := help
.PHONY: help build deps lint vet test test-all race model crashes bench fuzz demo deb cross rig crash soak vm

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build and vet everything, with and without the simulated reader
	$(PURE) $(GO) build ./...
	$(PURE) $(GO) vet ./...
	$(PURE) $(GO) vet -tags sim ./...

deps: ## install what the checks need besides Go (a C compiler for the race detector)
	@command -v gcc >/dev/null || { [ "$$(id -u)" = 0 ] && apt-get update -q && apt-get install -y -q --no-install-recommends gcc libc6-dev; }

$(LINT): .ci/go.mod .ci/go.sum
	mkdir -p bin/tools
	$(PURE) $(GO) build -modfile=.ci/go.mod -o $@ github.com/golangci/golangci-lint/v2/cmd/golangci-lint

lint: $(LINT) ## format, import directions and the rest of .golangci.yml
	$(LINT) run --timeout 10m ./...

test: ## all that needs only Go: no root, no C compiler
	$(PURE) $(GO) vet -tags sim ./...
	$(PURE) $(GO) test -tags sim ./...
	@echo
	@echo "Not run here:"
	@echo "  race detector          make race      (needs a C compiler)"
	@echo "  linters                make lint"
	@echo "  fuzzing beyond corpus  make fuzz"
	@echo "  benchmarks             make bench"
	@echo "  real peers (pcscd, processes under SIGKILL, systemd): not built yet"

test-all: test ## make test, and what needs peers
	@echo "test-all: real peers are not built yet; this was make test"

race: ## the tests under the race detector
	@if command -v gcc >/dev/null; then CGO_ENABLED=1 $(GO) test -race -tags sim ./... ; \
	elif [ "$$CI" = true ]; then echo "race: no C compiler"; exit 1; \
	else echo "race: not run, no C compiler (make deps)"; fi

model: ## the exhaustive model of the verdicts and its mutants
	$(PURE) $(GO) test ./agent/topup -run 'TestModel|TestMutants' -v

crashes: ## power cuts at every effect, and random worlds
	$(PURE) $(GO) test ./agent/simtest -v

bench: ## what one top-up costs, counted
	$(PURE) $(GO) test -run '^$$' -bench . -benchmem ./queue ./protocol/... ./agent/...

fuzz: ## every Fuzz function for 10 s
	@for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz'); do \
	    echo "== $$p $$f"; $(GO) test $$p -run '^$$' -fuzz "^$$f$$" -fuzztime 10s || exit 1; \
	  done; done

demo deb cross rig crash soak vm:
	@echo "$@: not built yet"; exit 1
