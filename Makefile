# Everything a person or CI does with this checkout. `make` lists it.

PYTHON ?= python3
PORT ?= 3000
# Passed on to the command that a target runs, e.g. make test ARGS="-k grid".
ARGS ?=

# Dagster takes an absolute path only.
export DAGSTER_HOME := $(CURDIR)/dagster_home

BIN := .venv/bin
STAMP := .venv/.installed
SOURCES := pyproject.toml requirements.lock

# One lock for all Pythons and systems. `fewest`: each package in one version on every Python, so that results do not
# depend on it. `--no-build`: only wheels, so that installing never runs a package's own build.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --no-build \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
	--extra dev pyproject.toml

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test soak fidelity bench ui ci checks check-lock lock format clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## put the locked packages and this one into .venv

demo: $(STAMP) ## run the example scene, offline, into demo/
	$(BIN)/stilt-assets demo $(ARGS)

# A part of the tests cannot cover the whole package.
test: $(STAMP) ## run the tests with coverage; ARGS="-k grid" runs some
	$(BIN)/python -m pytest --cov $(if $(strip $(ARGS)),--cov-fail-under=0) $(ARGS)

soak: $(STAMP) ## kill, starve and damage a scene of 1,000 pixels while it runs; ARGS="--times 20"
	$(BIN)/python tests/soak.py $(ARGS)

fidelity: $(STAMP) ## measure how faithful native is, into docs/fidelity.md; a quarter of an hour, needs ../shared
	PYTHONPATH=tests $(BIN)/python -m fidelity.full $(ARGS)

bench: $(STAMP) ## time one scene, and native against hycs_std
	$(BIN)/python benchmarks/native.py
	$(BIN)/python benchmarks/scene.py $(ARGS)

ui: export STILT_ASSETS_CONFIG ?= $(CURDIR)/demo/settings.yaml
# While scenes keep all cores busy a run needs more than Dagster's own 60 s to begin, and so may a look at a large file.
ui: export DAGSTER_GRPC_TIMEOUT_SECONDS ?= 300
ui: export DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS ?= 300
ui: $(STAMP) ## start Dagster's web page and daemon on 127.0.0.1, PORT=3000
	$(BIN)/dagster dev -w workspace.yaml -h 127.0.0.1 -p $(PORT) $(ARGS)

ci: checks test ## all checks and tests, cheap ones first

checks: $(STAMP) ## format, lint, security, lock, definitions, types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/bandit -q -c pyproject.toml -r stilt_assets
	@$(MAKE) --no-print-directory check-lock
	$(BIN)/dagster definitions validate -w workspace.yaml
	$(BIN)/basedpyright

# Starts from the present lock, so that pins stay where pyproject.toml still allows them, whatever came out since.
check-lock: $(STAMP) ## is requirements.lock what pyproject.toml asks for?
	@trial=$$(mktemp) || exit 1; trap 'rm -f "$$trial" "$$trial.err"' EXIT; cp requirements.lock "$$trial" || exit 1; \
	if $(COMPILE) --output-file "$$trial" >/dev/null 2>"$$trial.err"; then \
		cmp -s requirements.lock "$$trial" && echo "requirements.lock is up to date" && exit; \
		echo "requirements.lock is stale: run make lock" >&2; exit 1; \
	fi; \
	cat "$$trial.err" >&2; grep -q "Failed to fetch" "$$trial.err" || exit 1; \
	echo "requirements.lock was not checked: that needs a package index, and none answered" >&2

lock: $(BIN)/uv ## bring requirements.lock up to pyproject.toml; ARGS=--upgrade takes newer versions
	$(COMPILE) --output-file requirements.lock $(ARGS)

format: $(STAMP) ## lay out the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## remove .venv, caches and build output; results stay
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .coverage .coverage.* htmlcov
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "stilt-assets needs Python 3.11 or newer, and $(PYTHON) is not: make install PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv --clear .venv || { \
		echo "$(PYTHON) cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@sed -n '/^uv==/,/[^\\]$$/p' requirements.lock > .venv/uv.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps \
		--only-binary :all: --require-hashes -r .venv/uv.txt

$(STAMP): $(BIN)/uv $(SOURCES)
	@$(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes --no-build requirements.lock
	@$(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@
