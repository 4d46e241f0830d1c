# Nothing else to remember: make demo, make test, make check, make bench.
SHELL := /bin/bash
.DEFAULT_GOAL := check
.PHONY: setup demo test check bench unit live pythons

BIN := .venv/bin
OFFLINE := not live and not system and not sweep
# Live tests wait for the kernel, too.
WORKERS := $(shell echo $$(($$(nproc) + 1)))

setup:
	@scripts/setup

# The main job, shown: brings the port-forwarding example up, fetches a page through it, takes it down.
demo: setup
	@scripts/demo

# Every test.
test: setup
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory pythons
	@$(MAKE) --no-print-directory live

# What every commit passes: no root, under 30 s.
check: setup
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/pytest -q -m "$(OFFLINE)"

# The tests of check alone.
unit: setup
	$(BIN)/pytest -q -m "$(OFFLINE)"

# The tests that change a kernel's state, in throw-away namespaces.
live: setup
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal -m "not ($(OFFLINE))"

# The tests of check on every other Python that isthmus supports and this machine has.
pythons:
	@scripts/each-python -m "$(OFFLINE)"

# Time and memory, beside the bare messages of the kernel and beside other programs.
bench: setup
	@$(BIN)/python bench/run.py
