# Everything from nothing: `make demo` runs a fleet, `make test` passes all tests.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
SOURCES := src protocol durable sandbox engine service compiler board_profiles broker records agent coordinator export console fleet
CHECKED := $(SOURCES) benchmarks examples packaging tests
DEMO := demo
BENCHMARKS := compile_time wire idle_agent overhead ingest console reconnect finality attacks recovery throughput virtual training_step own_data mnist step_control asynchrony robustness
JOBS ?= 2

export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Tests start hundreds of processes; without compiled files each compiles 1,200 modules.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

.PHONY: demo
demo: $(VENV)/.fleet mosquitto ## Run ten boards and a coordinator; the report lands in demo/
	$(BIN)/starling fleet run --devices 10 --buffer 4 --data digits --privacy record \
		--epsilon 8 --until-version 200 --report $(DEMO)

.PHONY: setup
setup: $(VENV)/.dev mosquitto ## Set up the virtual environment with all extras, and Mosquitto

.PHONY: check
check: $(VENV)/.dev ## Static checks only: format, lint, types, arrows
	$(BIN)/ruff format --check $(CHECKED)
	$(BIN)/ruff check $(CHECKED)
	$(BIN)/mypy
	$(BIN)/lint-imports

.PHONY: test
test: setup ## All tests; unit and simulation in parallel, then everything with a broker
	$(BIN)/pytest -q -n $(JOBS) -m 'not e2e and not soak and not machine'
	$(BIN)/pytest -q -n $(JOBS) --dist loadscope -m 'e2e and not soak'

.PHONY: soak
soak: setup ## The long simulations and crash campaigns
	$(BIN)/pytest -q -m soak

.PHONY: mutants
mutants: setup ## The mutation gate: every planted bug must fail a test
	$(BIN)/python -m tests.mutants.run --jobs $(JOBS)

.PHONY: model
model: $(VENV)/.dev ## Check the model of consensus; needs spin and gcc
	$(BIN)/python -m tests.model.check

.PHONY: bench
bench: setup ## Every benchmark; tables on the terminal, JSON in benchmarks/results/
	@bad=; for name in $(BENCHMARKS); do echo "== $$name"; \
		$(BIN)/python -m benchmarks.$$name || bad="$$bad $$name"; \
	done; test -z "$$bad" || { echo "a goal was missed, or it failed:$$bad"; exit 1; }

.PHONY: example
example: $(VENV)/.fleet ## Run one of examples/: make example NAME=bank; all of them without NAME
	@for name in $(or $(NAME),$$($(BIN)/python -m examples.run --list)); do \
		$(BIN)/python -m examples.run $$name; done

.PHONY: lock
lock: $(VENV)/.dev ## Resolve the dependencies anew into requirements/*.txt
	$(BIN)/pip install -q uv
	for extra in agent coordinator compiler fleet mlflow parquet wandb web; do \
		$(BIN)/uv pip compile -q pyproject.toml --extra $$extra $(LOCKING) -o requirements/$$extra.txt; \
	done
	$(BIN)/uv pip compile -q --group build $(LOCKING) -o requirements/build.txt
	$(BIN)/uv pip compile -q --group docs $(LOCKING) -o requirements/docs.txt
	$(BIN)/uv pip compile -q pyproject.toml --extra fleet --group models -c requirements/fleet.txt $(LOCKING) -o requirements/models.txt
	$(BIN)/uv pip compile -q pyproject.toml --extra fleet --extra parquet --extra web --group dev $(LOCKING) -o requirements/dev.txt
LOCKING := --universal --python-version 3.11 --generate-hashes --no-annotate --no-header

# An environment of its own, of 7 GB: PyTorch, Keras and scikit-learn with their exporters.
# Opacus brings a top-level package `benchmarks` that would hide ours.
MODELS_VENV := build/models-venv

.PHONY: models
models: $(MODELS_VENV)/.models ## Try public models on the compiler: make models ARGS='--only resnet8'
	PYTHONPATH=src:. $(MODELS_VENV)/bin/python -m benchmarks.models $(ARGS)

$(MODELS_VENV)/.models: requirements/models.txt
	scripts/make-venv $(MODELS_VENV)
	$(MODELS_VENV)/bin/pip install -q --no-compile --require-hashes -r requirements/models.txt
	rm -rf $(MODELS_VENV)/lib/python*/site-packages/benchmarks
	@touch $@

# An environment of its own: the site needs nothing of Starling, and Starling nothing of it.
# Without -q: --strict does not count warnings that are not shown.
DOCS_VENV := build/docs-venv

.PHONY: docs
docs: $(DOCS_VENV)/.docs ## Build the site into build/site; a broken link ends it
	$(DOCS_VENV)/bin/mkdocs build --strict

$(DOCS_VENV)/.docs: requirements/docs.txt
	scripts/make-venv $(DOCS_VENV)
	$(DOCS_VENV)/bin/pip install -q --no-compile --require-hashes -r requirements/docs.txt
	@touch $@

.PHONY: wheel
wheel: $(VENV)/.fleet ## Build wheel and sdist into dist/
	$(BIN)/python -m hatchling build

IMAGE := build/image
IMAGE_NAME ?= starling:dev
BASE ?= python:$$($(BIN)/python -c "import sys; print(\"%d.%d\" % sys.version_info[:2])")-slim

.PHONY: image-context
image-context: $(VENV)/.dev ## Gather what packaging/docker/Dockerfile copies
	rm -rf $(IMAGE) && mkdir -p $(IMAGE)
	$(BIN)/pip wheel -q --no-deps --no-build-isolation -w $(IMAGE)/wheels .
	$(BIN)/pip download -q --no-deps --require-hashes --only-binary :all: \
		-r requirements/coordinator.txt -d $(IMAGE)/wheels
	$(BIN)/python packaging/docker/demo_task.py $(IMAGE)/task
	cp packaging/docker/Dockerfile packaging/docker/entry.sh $(IMAGE)/

.PHONY: image
image: image-context ## Build the image IMAGE_NAME, else starling:dev; BASE must have this Python's version
	docker build -t $(IMAGE_NAME) --build-arg BASE=$(BASE) $(IMAGE)

.PHONY: man
man: $(VENV)/.fleet ## Write the manual pages of all commands into build/man
	$(BIN)/python packaging/man/man_pages.py --out build/man

DEB_PYTHON ?= 3.11
DEB_COMPRESSION ?= xz

.PHONY: deb
deb: $(VENV)/.fleet ## Build the agent's Debian package for amd64 and arm64 into dist/
	for architecture in amd64 arm64; do \
		$(BIN)/python packaging/deb/build.py --architecture $$architecture \
			--python $(DEB_PYTHON) --compression $(DEB_COMPRESSION); \
	done

.PHONY: test-deploy
test-deploy: setup ## Units, package; boards on machines of systemd-nspawn; containers where docker runs, arm64 where qemu is
	$(BIN)/pytest -q tests/deploy tests/unit/service tests/e2e/service

.PHONY: clean
clean: ## Remove what the targets above made
	rm -rf $(VENV) $(DEMO) report build dist benchmarks/results .mypy_cache .ruff_cache .pytest_cache .hypothesis

.PHONY: mosquitto
mosquitto:
	@scripts/ensure-mosquitto

$(VENV)/bin/python:
	@scripts/make-venv $(VENV)

$(VENV)/.fleet: requirements/fleet.txt requirements/build.txt pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install -q --no-compile --require-hashes -r requirements/build.txt -r requirements/fleet.txt
	$(BIN)/pip install -q --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: requirements/dev.txt $(VENV)/.fleet
	$(BIN)/pip install -q --require-hashes -r requirements/dev.txt
	@touch $@
