# Front of the build: `make help` lists what there is. The build itself is CMake's (CMakePresets.json).
.DEFAULT_GOAL := build
.PHONY: help deps build install demo test unit lint format sanitize fuzz golden clean

BUILD := build
DEPS := scripts/install-deps
STAGES := build
TARGET := all

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

deps: ## install compilers and libraries, for `make test` nvcc and pybind11 too (nothing happens if they are there)
	@$(DEPS) $(STAGES)

build: deps ## release build: build/bin/headrace and build/bin/trtllm-build (the default)
	@cmake --preset release
	@cmake --build --preset release --target $(TARGET)

install: build ## install program, library, headers and CMake package under PREFIX (/usr/local)
	@cmake --install $(BUILD) --prefix $(or $(PREFIX),/usr/local)

demo: TARGET := programs
demo: build ## convert, build, plan and summarise with a real model, 20 % of it in memory
	@$(DEPS) demo
	@scripts/demo

test: STAGES := build cuda python
test: build lint ## lint, then every test, the quick ones first (what CI runs)
	@$(DEPS) e2e
	@ctest --test-dir $(BUILD) --output-on-failure --no-tests=error -j 2 -LE gpu
	@echo "The tests labelled gpu were left out: they need a GPU (scripts/gpu_check.sh)."

unit: build ## the tests that take less than a minute together
	@ctest --test-dir $(BUILD) --output-on-failure --no-tests=error -j 2 -L unit

lint: build ## formatting, include directions, clang-tidy over everything
	@$(DEPS) lint
	@scripts/lint

format: ## reformat every C++ file
	@$(DEPS) build lint
	@scripts/lint --fix

sanitize: deps ## unit tests under AddressSanitizer + UBSan, then under ThreadSanitizer
	@for preset in asan-ubsan tsan; do \
	  cmake --preset $$preset && cmake --build --preset $$preset --target quick_tests && \
	  ctest --test-dir build-$$preset --output-on-failure --no-tests=error -j 2 -L 'unit|fuzz' || exit 1; \
	done

fuzz: ## fuzz every parser for FUZZ_SECONDS (default 60) each, with Clang's libFuzzer
	@$(DEPS) fuzz
	@scripts/fuzz $(or $(FUZZ_SECONDS),60)

golden: ## compute the committed golden outputs again (needs torch and transformers: 5 GB)
	@$(DEPS) build golden
	@scripts/make-golden

clean: ## remove what the build made
	@rm -rf build build-dev build-wheel build-asan-ubsan build-tsan build-fuzz demo
