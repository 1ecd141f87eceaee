# meshnode: the commands of everyday work.  `make` alone lists them.

MESHNODE := .venv/bin/meshnode
PYTEST   := .venv/bin/python -m pytest
PARALLEL := -n $(or $(JOBS),2) --dist loadfile
BENCHES  := $(patsubst bench/%.py,bench.%,$(shell grep -ls '^if __name__' bench/*.py))

.DEFAULT_GOAL := help
.PHONY: help setup packages lab lint test test-all test-jaeger check-alerts sim mutants \
        chaos chaos-long bench clean compose-up compose-demo compose-down compose-images

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

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

test: packages lint ## lint, every test that is not slow, the short chaos catalogue, the essential ones over Kafka
	@$(PYTEST) -q $(PARALLEL) -m "not slow and not kafka"
	@scripts/test-kafka $(PARALLEL) -m "(kafka or kafka_essential) and not slow"

test-all: packages lint ## lint, every test, and all integration tests over Kafka too
	@$(PYTEST) -q $(PARALLEL) -m "not kafka"
	@scripts/test-kafka $(PARALLEL)

test-jaeger: packages ## eight regions export to a real Jaeger (built once: a quarter of an hour)
	@MESHNODE_JAEGER=$$(scripts/jaeger) $(PYTEST) -q tests/jaeger

check-alerts: packages setup ## alert rules, their tests and the dashboards, with promtool
	@deploy/prometheus/check
	@$(PYTEST) -q tests/unit/deploy/test_alerts.py tests/unit/deploy/test_dashboards.py

sim: setup ## SEEDS=20000 schedules of a simulated mesh (REPORT=file); a failing one is shown
	@.venv/bin/python -m tests.sim --seeds $(or $(SEEDS),20000) $(if $(REPORT),--report $(REPORT))

mutants: setup ## switch off each rule of the design in turn: the simulation must see it
	@.venv/bin/python -m tests.sim.gate $(if $(REPORT),--report $(REPORT))

chaos: packages setup ## C1 to C12 on real servers in sequence, with a report (SEED=...)
	@.venv/bin/python -m chaos all $(if $(SEED),--seed $(SEED))

chaos-long: packages setup ## L1, everything at once at eight regions, and L2 to L9: HOURS=1 (SEED=...)
	@.venv/bin/python -m chaos long --hours $(or $(HOURS),1) $(if $(SEED),--seed $(SEED))

bench: setup ## run the benchmarks one after the other; each prints JSON
	@set -e; for bench in $(BENCHES); do echo "== $$bench" >&2; .venv/bin/python -m $$bench; done

compose-up: ## eight regions in containers, with Kafka, Prometheus, Grafana and Jaeger
	@deploy/compose/lab up

compose-demo: ## on them: conflicting writes, a cut through toxiproxy, a heal, a proof
	@deploy/compose/lab demo

compose-down: ## end them and delete their data
	@deploy/compose/lab down

# Only for a machine without an image registry: local images under the published names.
compose-images: setup
	@deploy/stand-ins/build

clean: ## remove .venv and what tools leave behind (the cache with MySQL stays)
	rm -rf .venv build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
