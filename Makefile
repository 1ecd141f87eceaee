# meshnode: the commands of everyday work.  `make` alone lists them.

MESHNODE := .venv/bin/meshnode
PYTEST   := .venv/bin/python -m pytest
BENCHES  := $(patsubst bench/%.py,bench.%,$(shell grep -ls '^if __name__' bench/*.py))

.DEFAULT_GOAL := help
.PHONY: help setup packages lab lint test test-all bench clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' Makefile

setup: ## make .venv/bin/meshnode
	@scripts/setup

packages:
	@scripts/packages

lab: setup ## eight regions on this machine: the demo, then live at a terminal until Ctrl-C
	@$(MESHNODE) lab demo
	@if [ -t 0 ] && [ -t 1 ]; then $(MESHNODE) lab up; fi

lint: setup ## ruff: rules and format
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .

test: packages lint ## lint, and every test that is not slow
	@$(PYTEST) -q -m "not slow"

test-all: packages lint ## lint, and every test
	@$(PYTEST) -q

bench: setup ## run the benchmarks one after the other; each prints JSON
	@set -e; for bench in $(BENCHES); do echo "== $$bench" >&2; .venv/bin/python -m $$bench; done

clean: ## remove .venv and what tools leave behind (the cache with MySQL stays)
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
