# Everything a person or CI does with this checkout. `make` lists it.

PYTHON ?= python3
PORT ?= 3000
# Passed on to the command that a target runs, e.g. make test ARGS="-k grid".
ARGS ?=

# Dagster takes an absolute path only.
export DAGSTER_HOME := $(CURDIR)/dagster_home
# Tests and scenes start hundreds of programs: one that finds no bytecode compiles all that it imports, some 2 s of a core.
unexport PYTHONDONTWRITEBYTECODE

BIN := .venv/bin
STAMP := .venv/.installed
SOURCES := pyproject.toml requirements.lock

# One lock for all Pythons and systems. `fewest`: each package in one version on every Python, so that results do not
# depend on it. `--no-build`: only wheels, so that installing never runs a package's own build.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --no-build \
	--generate-hashes --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" pyproject.toml
# The container image has the same versions, and nothing that only developing needs.
DEV_LOCK := requirements.lock --extra dev
IMAGE_LOCK := docker/requirements.lock --extra kubernetes --extra gcs --extra s3 --constraint requirements.lock --no-annotate

# Where images are pushed to, such as localhost:32000 or the one that terraform/ made
REGISTRY ?=
# dev or prod; a deployment of prod also wants CONFIRM=stilt-prod.
ENVIRONMENT ?= dev
export REGISTRY

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo test soak fidelity slurm-test cluster-test bench ui ci checks check-lock lock format clean \
	build_images push_images infra deploy deploy_local check_image check_terraform

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z_-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

install: $(STAMP) ## put the locked packages and this one into .venv

demo: $(STAMP) ## run the example scene, offline, into demo/
	$(BIN)/stilt-assets demo $(ARGS)

# A part of the tests cannot cover the whole package. All of them run side by side, each file in one process and in the
# order in which conftest.py has them: three on two cores, as a third of the time is spent waiting for programs.
test: $(STAMP) ## run the tests with coverage; ARGS="-k grid" runs some
	$(BIN)/python -m pytest --cov $(if $(strip $(ARGS)),--cov-fail-under=0 $(ARGS),-n 3 --dist loadfile --no-loadscope-reorder)

soak: $(STAMP) ## kill, starve and damage a scene of 1,000 pixels while it runs; ARGS="--times 20"
	$(BIN)/python tests/soak.py $(ARGS)

fidelity: $(STAMP) ## measure how faithful native is, into docs/fidelity.md; a quarter of an hour, needs ../shared
	PYTHONPATH=tests $(BIN)/python -m fidelity.full $(ARGS)

slurm-test: $(STAMP) ## a scene through a real Slurm on this machine; as root, with Debian's slurm-wlm and munge
	$(BIN)/python -m pytest -p no:cacheprovider --no-cov tests/slurm/on_a_node.py $(ARGS)

cluster-test: $(STAMP) ## a scene on a real Kubernetes API server; needs the programs that tests/cluster/control_plane.sh makes
	$(BIN)/python -m pytest -p no:cacheprovider --no-cov tests/cluster/on_an_api_server.py $(ARGS)

bench: $(STAMP) ## time scenes, and native against hycs_std
	PYTHONPATH=tests $(BIN)/python benchmarks/native.py
	$(BIN)/python benchmarks/native_scene.py
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
	$(BIN)/hadolint docker/Dockerfile
	@if command -v terraform >/dev/null; then $(MAKE) --no-print-directory check_terraform; \
		else echo "terraform/ was not checked: no terraform is on PATH" >&2; fi
	@$(MAKE) --no-print-directory check-lock
	$(BIN)/dagster definitions validate -w workspace.yaml
	$(BIN)/basedpyright

# What needs no provider: one cannot be had without Google's registry.
check_terraform:
	terraform fmt -check -diff -recursive terraform
	@work=$$(mktemp -d) && trap 'rm -rf "$$work"' EXIT && cp terraform/quota/* "$$work" && \
		terraform -chdir="$$work" init -input=false >/dev/null && terraform -chdir="$$work" test

# Starts from the present locks, so that pins stay where pyproject.toml still allows them, whatever came out since.
check-lock: $(STAMP) ## are the two locks what pyproject.toml asks for?
	@trial=$$(mktemp) || exit 1; trap 'rm -f "$$trial" "$$trial.err"' EXIT; \
	check() { \
		lock=$$1; shift; cp "$$lock" "$$trial" || exit 1; \
		if $(COMPILE) --output-file "$$trial" "$$@" >/dev/null 2>"$$trial.err"; then \
			cmp -s "$$lock" "$$trial" && echo "$$lock is up to date" && return; \
			echo "$$lock is stale: run make lock" >&2; exit 1; \
		fi; \
		cat "$$trial.err" >&2; grep -q "Failed to fetch" "$$trial.err" || exit 1; \
		echo "$$lock was not checked: that needs a package index, and none answered" >&2; \
	}; check $(DEV_LOCK) && check $(IMAGE_LOCK)

lock: $(BIN)/uv ## bring both locks up to pyproject.toml; ARGS=--upgrade takes newer versions
	$(COMPILE) --output-file $(DEV_LOCK) $(ARGS)
	$(COMPILE) --output-file $(IMAGE_LOCK)

format: $(STAMP) ## lay out the code and mend what ruff can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

build_images: ## build the container image of this commit; REGISTRY=…
	docker/image.sh build

push_images: build_images ## push it, and note its digest in build/image
	docker/image.sh push

deploy: ## put the pushed image into service; ENVIRONMENT=dev or prod, PROJECT, REGION; see docs/deploy.md
	helm-values/deploy.sh $(ENVIRONMENT) $(ARGS)

infra: ## plan and apply PART=cluster, dev or prod of terraform/; PROJECT, REGION, CONFIRM, REMOVE; see docs/deploy.md
	terraform/apply.sh $(PART)

deploy_local: push_images ## the same on kind, k3d or microk8s; REGISTRY=localhost:32000
	helm-values/deploy.sh local $(ARGS)

check_image: ## build and run the image without any registry; root on Debian, three minutes
	docker/check.sh

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
	@echo "installed in .venv; now: make demo"
