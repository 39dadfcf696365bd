# The two that matter first: `make demo`, `make test`. Both need only Go, git and make.
#
# Variables: OPEN=1 leaves the demo running, JSON=1 makes it print an object per step; BENCH, BENCHPKGS, FUZZTIME,
# FUZZ (a pattern of names), RACEFLAGS, TESTFLAGS and RIGFLAGS are handed on; FULL=1 makes rig run its full numbers.
# TESTED=1: test-all leaves out what make test has just run.

# A test that fails in front of a filter fails the target.
SHELL       := /bin/bash
.SHELLFLAGS := -o pipefail -c

GO       ?= go
CC       := $(or $(shell $(GO) env CC),gcc)
PURE     := CGO_ENABLED=0
SIM      := -tags sim
# With PC/SC there is a C library; names of groups and hosts are looked up without it: less memory, and every wait has an end.
SHIPPED  := pcsc,osusergo,netgo
LINT     := bin/tools/golangci-lint
# The linter's cache belongs to this tree: a shared one answers with another clone's paths.
export GOLANGCI_LINT_CACHE := $(CURDIR)/bin/tools/cache
# What is shipped is small, has no path of this machine in it, and knows its commit where there is one.
RELEASE  := -trimpath -buildvcs=auto -ldflags "-s -w"

BENCH     ?= .
BENCHPKGS ?= ./queue/... ./protocol/... ./agent/...
FUZZTIME  ?= 10s
FUZZ      ?= .
# Under the race detector: what has one goroutine and takes long comes in a small form.
RACEFLAGS ?= -short
TESTFLAGS ?=
RIGFLAGS  ?=
FULL      ?=
TESTED    ?=

.DEFAULT_GOAL := help
.PHONY: help deps build vet lint fmt test test-all race openapi model crashes bench fuzz demo tools-sim rig rig-bin footprint mirror-full nspawn deb cross crash soak vm

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

# --- build ---------------------------------------------------------------------------------------------------------

deps: ## modules, and a C compiler for the race detector (by apt when root)
	@bash .ci/deps

# PC/SC needs a C compiler and libpcsclite; without them the program says so when it is asked for a reader.
PCSC := $(shell pkg-config --exists libpcsclite 2>/dev/null && command -v $(firstword $(CC)) >/dev/null && echo yes)

build: ## the programs that are shipped, into dist/: without simulators; with PC/SC where libpcsclite-dev is
	@mkdir -p dist
	$(if $(PCSC),CGO_ENABLED=1,$(PURE)) $(GO) build $(if $(PCSC),-tags $(SHIPPED)) $(RELEASE) -o dist/ ./cmd/kioskd ./cmd/kioskctl
	@$(if $(PCSC),true,echo 'built without PC/SC: apt-get install gcc libpcsclite-dev pkg-config, then again')

# The demo's programs know the simulated reader: they go to bin/ and must never be shipped.
tools-sim:
	@mkdir -p bin
	@$(PURE) $(GO) build $(SIM) -o bin/ ./cmd/kioskd ./cmd/kioskctl ./cmd/vccsim

demo: tools-sim ## a kiosk, its platform and its cards, played step by step; ends 0 only if all books agree
	@bin/vccsim demo $(if $(filter-out 0,$(OPEN)),--open) $(if $(filter-out 0,$(JSON)),--json)

# --- checks --------------------------------------------------------------------------------------------------------

vet: ## go vet, plain and with the simulated reader
	$(PURE) $(GO) vet ./...
	$(PURE) $(GO) vet $(SIM) ./...
	$(PURE) $(GO) vet -tags "sim rig" ./cmd/kioskd/rigtest

$(LINT): .ci/go.mod .ci/go.sum
	@mkdir -p $(@D)
	$(PURE) $(GO) -C .ci build -trimpath -o ../$(@D)/ tool
	@touch $@

# The cache is this checkout's own: one shared between checkouts reports findings in files that are gone.
lint: $(LINT) ## format, import directions and the rest of .golangci.yml
	$(LINT) fmt --diff
	GOLANGCI_LINT_CACHE=$(CURDIR)/bin/tools/cache $(LINT) run --allow-parallel-runners ./...

fmt: $(LINT) ## format as lint wants it
	$(LINT) fmt

test: ## all that needs only Go: no root, no C compiler, no network
	$(PURE) $(GO) vet ./...
	$(PURE) $(GO) test $(SIM) $(TESTFLAGS) ./...
	@echo
	@echo 'Not run by this:'
	@echo '  data races                           make race      (needs a C compiler)'
	@echo '  format, linters, import rules        make lint'
	@echo '  fuzzing beyond the stored corpus     make fuzz'
	@echo '  other shapes, shuffled, uncached     make test-all'
	@echo '  what a top-up costs                  make bench'
	@echo '  day files over a real sshd           make test-all  (installs sshd)'
	@echo '  real pcscd, processes under kill -9  make rig       (installs what it needs)'
	@echo '  the package under systemd            make nspawn    (root)'
	@echo '  swtpm, a VM: not built yet'

test-all: ## every shape, uncached and shuffled, then the real parts: pcscd, the rig, the package in a system of its own
	$(if $(TESTED),@echo 'TESTED is set: make test has passed',$(PURE) $(GO) test $(SIM) -count=1 -shuffle=on $(TESTFLAGS) ./...)
	$(PURE) $(GO) build ./...
	$(PURE) GOARCH=arm64 $(GO) build ./...
	$(PURE) GOARCH=arm GOARM=7 $(GO) build ./...
	@$(MAKE) --no-print-directory openapi
	@bash .ci/peers
	SFTP_PEER=1 $(PURE) $(GO) test ./protocol/reconcile/... -count=1 -run SFTP -v
	CGO_ENABLED=1 $(GO) vet -tags pcsc ./cardreader/pcsc ./cmd/kioskd
	CGO_ENABLED=1 $(GO) test -tags pcsc -count=1 -v ./cardreader/pcsc/... | grep -vE '^(=== |--- PASS|    --- PASS|        --- PASS)'
	@$(MAKE) --no-print-directory rig FULL=0 RIGFLAGS="-run 'TestRig|TestRestart|TestLogs'"
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory nspawn; elif [ "$$CI" = true ]; then echo 'nspawn: needs root, and CI=true'; exit 1; \
	else echo 'nspawn: NOT RUN, needs root: sudo make nspawn'; fi
	@echo
	@echo 'Not run by this:'
	@echo '  the rig with its full numbers        make rig FULL=1'
	@echo '  packages of three architectures      make cross     (installs cross compilers)'
	@echo '  swtpm, a VM: not built yet'

race: ## the tests under the race detector
	@if command -v $(firstword $(CC)) >/dev/null 2>&1; then \
		set -x; CGO_ENABLED=1 $(GO) test -race $(SIM) $(RACEFLAGS) ./...; \
	elif [ "$$CI" = true ]; then \
		echo 'race: no C compiler ($(CC)), and CI=true: make deps'; exit 1; \
	else \
		echo 'race: NOT RUN, no C compiler ($(CC)): make deps'; \
	fi

openapi: tools-sim ## what a platform must build, as OpenAPI 3.1, into dist/; checked by a library of others
	@mkdir -p dist
	@bin/vccsim openapi >dist/vcc-openapi.json
	@cd .ci/openapi && OPENAPI=$(CURDIR)/dist/vcc-openapi.json $(PURE) $(GO) test -count=1 -v . | grep -vE '^(===|---|PASS)'

model: ## the exhaustive model of the verdicts, and its mutants
	$(PURE) $(GO) test ./agent/topup -run 'TestModel|TestMutants' -v

crashes: ## power cuts at every effect, and random worlds
	$(PURE) $(GO) test $(SIM) ./agent/simtest -v

bench: ## what one top-up costs, counted
	$(PURE) $(GO) test $(SIM) -run '^$$' -bench '$(BENCH)' -benchmem $(BENCHPKGS)

fuzz: ## every Fuzz function for FUZZTIME (10s) beyond its corpus; FUZZ=Name for some
	@set -e; list=$$(grep -rHoE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sed 's/:func /:/' | grep -E '$(FUZZ)' | sort); \
	[ -n "$$list" ] || { echo "fuzz: no function matches '$(FUZZ)'"; exit 1; }; \
	for f in $$list; do \
		dir=$$(dirname "$${f%%:*}"); name=$${f##*:}; \
		echo "== $$dir $$name"; \
		$(PURE) $(GO) test $(SIM) $$dir -run '^$$' -fuzz "^$$name$$" -fuzztime $(FUZZTIME) -parallel 2; \
	done

# --- real parts (make deps installs what they need) ----------------------------------------------------------------

RIG := bin/rig
# kioskd as it is shipped, with PC/SC; the platform beside it.
rig-bin:
	@mkdir -p $(RIG)
	@CGO_ENABLED=1 $(GO) build -tags $(SHIPPED) $(RELEASE) -o $(RIG)/ ./cmd/kioskd ./cmd/kioskctl
	@$(PURE) $(GO) build $(SIM) -o $(RIG)/ ./cmd/vccsim

rig: ## real processes under kill -9, real pcscd, nginx, broken lines; FULL=1 for the full number
	@bash .ci/peers
	@$(MAKE) --no-print-directory rig-bin
	RIG_BIN=$(CURDIR)/$(RIG) FULL=$(filter-out 0,$(FULL)) $(GO) test -tags rig -count=1 -timeout 60m -v $(RIGFLAGS) ./cmd/kioskd/rigtest

footprint: tools-sim ## what an idle kiosk costs beside what it may: size, start, memory, wake-ups, writes
	@bash .ci/peers
	@$(MAKE) --no-print-directory rig-bin
	@FOOTPRINT=1 RIG_READER=sim RIG_BIN=$(CURDIR)/bin $(GO) test -tags rig -count=1 -run TestFootprint -v ./cmd/kioskd/rigtest | grep -vE '^(===|---|PASS|ok)'
	@FOOTPRINT=1 RIG_BIN=$(CURDIR)/$(RIG) $(GO) test -tags rig -count=1 -run TestFootprint -v ./cmd/kioskd/rigtest | grep -vE '^(===|---|PASS|ok)'

mirror-full: ## five million rows of 3003 into mirror.db, in a process whose memory is looked at
	FULL=1 $(PURE) $(GO) test -count=1 -timeout 60m -run TestFiveMillionRows -v ./agent/mirror

nspawn: ## the package in a booted system of its own: install, serve, kill, hang, upgrade, purge (root)
	@bash .ci/peers
	@deploy/nspawn

deb: ## the Debian package for this machine's architecture, into dist/
	@bash .ci/peers
	@deploy/build-deb $$(dpkg --print-architecture) dist

cross: ## the Debian packages for amd64, arm64 and armhf, into dist/, checked (built twice, lintian, a top-up under qemu)
	@bash .ci/peers cross
	@rm -f dist/*.deb
	@for arch in amd64 arm64 armhf; do REV=$$(git rev-parse HEAD) deploy/build-deb $$arch dist || exit 1; done
	@deploy/check-debs dist
	@$(MAKE) --no-print-directory rig-bin
	@deploy/check-foreign dist $(RIG)

# --- not there yet -------------------------------------------------------------------------------------------------

crash: ## power cuts of real processes at every write: not built yet
soak: ## days under load: not built yet
vm: ## a whole kiosk in a virtual machine: not built yet
crash soak vm:
	@echo '$@: not built yet'; exit 1
