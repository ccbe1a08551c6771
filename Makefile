# Reagent and Reagent Studio. `make` alone lists what it can do.

SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

GO       ?= go
OUT      ?= build
PROGRAMS := reagent reagent-studio

# A tagged commit is that version; any other is a development build of the one
# that the tree leads to. VERSION=… on the command line goes before both.
TAG     := $(shell git describe --tags --exact-match 2>/dev/null | sed -n 's/^v\([0-9].*\)/\1/p')
VERSION ?= $(or $(TAG),$(shell cat release/VERSION)-dev)

# Git refuses to look into a clone that somebody else owns, and go build with it.
BUILDVCS := $(if $(shell git rev-parse HEAD 2>/dev/null),auto,false)

export CGO_ENABLED = 0
BUILD = $(GO) build -trimpath -buildvcs=$(BUILDVCS) -ldflags '-s -w -X reagent/release.Version=$(VERSION)'

# The helper is a module of its own, several times the size of the others:
# HELPER=no leaves it out where a quick look at the rest is wanted.
HELPER ?= yes
BUILD_HELPER = $(GO) build -C compose -trimpath -buildvcs=$(BUILDVCS) -ldflags '-s -w -X main.Version=$(VERSION)'

# os/architecture/variant of every platform that is released.
TARGETS := linux/amd64 linux/arm64 linux/arm/7 linux/arm/6 linux/arm/5 linux/riscv64 \
           darwin/amd64 darwin/arm64 windows/amd64

# Packages tested side by side; more of them share one engine too tightly.
TESTS    ?= $(shell nproc 2>/dev/null || echo 2)

FUZZTIME ?= 1m
KILLS    ?= 1000
STEPS    ?= 100000
PKG      ?= ./...

.PHONY: help build test demo demo-clean bench lint fmt cross fuzz model soak cover deps release clean $(TARGETS)

help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | sort | awk -F'\t' '{ printf "  make %-11s %s\n", $$1, $$2 }'

build: ## all programs for this machine, into build/
	@mkdir -p $(OUT)
	$(foreach p,$(PROGRAMS),$(BUILD) -o $(OUT)/ ./cmd/$(p);)
	$(if $(filter yes,$(HELPER)),$(BUILD_HELPER) -o $(abspath $(OUT))/ .)

test: ## set up what is missing on this machine, then every test with the race detector
	test/setup
	CGO_ENABLED=1 REAGENT_REQUIRE_DOCKER=1 REAGENT_REQUIRE_CROSSBAR=1 $(GO) test -race -p $(TESTS) -timeout 15m $(PKG)

demo: build ## this machine as a device of its own studio, with an app; Ctrl-C ends it
	test/demo

demo-clean: ## remove what the demo left behind
	test/demo clean

bench: build ## measure both programs; a table, and JSON in build/bench.json
	@$(GO) run ./test/bench

lint: ## gofmt, go vet, staticcheck
	@unformatted="$$(git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -l)"; \
	if [ -n "$$unformatted" ]; then echo "not formatted (make fmt):"; echo "$$unformatted"; exit 1; fi
	$(GO) vet $(PKG)
	$(GO) tool -modfile=tools/go.mod staticcheck $(PKG)
	cd compose && $(GO) vet . && $(GO) tool -modfile=../tools/go.mod staticcheck .

fmt: ## format the source
	git ls-files -z --cached --others --exclude-standard '*.go' | xargs -0 gofmt -w

cross: $(TARGETS) ## all programs for every platform that is released

# A platform as a target: make linux/arm/6
$(TARGETS):
	@set -- $(subst /, ,$@); os=$$1 arch=$$2 variant=$${3:-}; \
	to=$(OUT)/$$os-$$arch$${variant:+v$$variant}; mkdir -p $$to; \
	for p in $(PROGRAMS); do \
		echo "$$to/$$p"; GOOS=$$os GOARCH=$$arch GOARM=$$variant $(BUILD) -o $$to/ ./cmd/$$p; \
	done; \
	[ $(HELPER) != yes ] || { \
		echo "$$to/reagent-compose"; to=$$(cd $$to && pwd); \
		GOOS=$$os GOARCH=$$arch GOARM=$$variant $(BUILD_HELPER) -o $$to/ .; \
	}

fuzz: ## every fuzz target for FUZZTIME (1m) each
	@$(GO) list -f '{{.Dir}}' $(PKG) | while read -r dir; do \
		grep -ohE '^func Fuzz[A-Za-z0-9_]+' "$$dir"/*_test.go 2>/dev/null | sed 's/^func //' | sort -u | while read -r target; do \
			echo "== $${dir#"$$PWD"/} $$target"; \
			$(GO) test "$$dir" -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 200x </dev/null; \
		done; \
	done

model: ## STEPS (100000) random steps of apps' lives on a small engine; SEED=n plays one sequence again
	REAGENT_MODEL=$(STEPS) REAGENT_SEED=$(SEED) $(GO) test -count 1 -timeout 24h -run WhateverHappens ./agent/apps

soak: ## the tests with a random element, for long: KILLS (1000) kills of the agent, STEPS (100000) of the model
	test/setup
	CGO_ENABLED=1 REAGENT_REQUIRE_DOCKER=1 REAGENT_REQUIRE_CROSSBAR=1 REAGENT_SOAK=$(KILLS) REAGENT_MODEL=$(STEPS) \
		$(GO) test -race -count 1 -timeout 24h -v -run 'Kill|Damage|WhateverHappens' ./agent/apps ./persistence/... ./test/...

cover: ## test coverage, as a page in build/cover.html
	@mkdir -p $(OUT)
	$(GO) test -coverprofile $(OUT)/cover.out -coverpkg ./... $(PKG)
	$(GO) tool cover -html $(OUT)/cover.out -o $(OUT)/cover.html
	@$(GO) tool cover -func $(OUT)/cover.out | tail -1

deps: ## write down what the agent's binary links, after a look at the change
	$(GO) test ./internal/archtest -run Links -update
	git diff --stat -- internal/archtest/deps.txt

release: ## every platform as an archive with checksums, into build/release/; the same bytes each time
	@rm -rf $(OUT)/release
	$(MAKE) --no-print-directory cross OUT=$(OUT)/release
	@cd $(OUT)/release && for d in */; do d=$${d%/}; \
		tar --sort=name --owner=0 --group=0 --numeric-owner --mtime=@$$(git log -1 --format=%ct) \
			-C "$$d" -cf - . | gzip -n9 >"reagent_$(VERSION)_$$d.tar.gz"; rm -r "$$d"; \
	done && sha256sum *.tar.gz >SHA256SUMS && cat SHA256SUMS

clean: ## remove build/
	rm -rf $(OUT)
