# Two commands matter: `make reproduce` runs the recipe, `make test` checks the kit. Each first makes the environment it needs.

# smoke, mini, h100 or paper: see nbs/profiles
PROFILE ?= smoke
# constraints-cuda.txt on a machine with an NVIDIA GPU
CONSTRAINTS ?= constraints.txt
# processes that run tests side by side
WORKERS ?= 2
# the notebooks that `make notebooks` executes
NOTEBOOKS ?= $(sort $(filter-out nbs/recipe/% nbs/lessons/%, $(wildcard nbs/[!_]*.ipynb nbs/[!_]*/*.ipynb)))
# what `make fresh-clone` does there
GOALS ?= test reproduce
# any Python from 3.11 on
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
            $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
# For Linux the public index holds torch with gigabytes of CUDA; the CPU build comes from your own index or, failing that, from here.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu
# Debian's names for what some tests use: the sandbox, a browser, network namespaces
SYSTEM := bubblewrap chromium iproute2

BIN   := .venv/bin
READY := .venv/.installed
TORCH := torch==$(shell sed -n 's/^torch==//p' constraints.txt)
PIP   := $(BIN)/python -m pip --quiet --disable-pip-version-check install
# One thread a process; a forked test process ends without joblib's clean-up, which its resource tracker then does, with a warning.
NBDEV_TEST := OMP_NUM_THREADS=1 PYTHONWARNINGS=ignore:resource_tracker $(BIN)/nbdev-test --n-workers $(WORKERS) --skip-folder-re '^[_.]|^(recipe|lessons)$$'
PYTEST     := OMP_NUM_THREADS=1 $(BIN)/pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

BENCHES := loss polynorm attention generate sft rl
benches  = for bench in $(BENCHES); do $(BIN)/motif-repro bench $$bench --device $(1) || exit; done

timed = @start=$$(date +%s); $(2) && echo "== $(1): $$(( $$(date +%s) - start )) s"

.DEFAULT_GOAL := help
.PHONY: help reproduce test test-repository test-notebooks test-python test-slow test-gpu bench bench-gpu grid kernel-package planner-rows mutants docs lab notebooks recipe-notebooks reference install sandbox system fresh-clone clean

help:  ## list these targets
	@awk -F ': .*## |: *## ' '/^[a-z-]+:.*##/ { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

reproduce: $(READY)  ## run the recipe and print the claims table; PROFILE=mini for a larger run
	$(BIN)/motif-repro run --profile $(PROFILE)

test: test-repository test-notebooks test-python  ## all tests that need no GPU and no long wait

test-repository: $(READY)  ## only: library equals notebooks, notebooks are clean, rooms import in order
	$(call timed,$@,$(PYTEST) tests/test_repository.py)

test-notebooks: $(READY)  ## only: execute every library notebook
	$(call timed,$@,$(NBDEV_TEST))

test-python: $(READY)  ## only: the rest of tests/
	$(call timed,$@,$(PYTEST) --ignore tests/test_repository.py)

test-slow: $(READY)  ## the tests that take minutes
	$(call timed,$@,$(NBDEV_TEST) --flags slow && $(PYTEST) -m 'slow and not gpu')

test-gpu: $(READY)  ## the tests that need a CUDA device
	$(call timed,$@,$(NBDEV_TEST) --flags gpu --n-workers 1 && $(BIN)/pytest -m gpu)

bench: $(READY)  ## measure our kernels and every public peer on this machine; rows go to kernels/results
	$(call timed,$@,$(call benches,cpu))

bench-gpu: $(READY)  ## the same on a CUDA device, at the sizes of the model
	$(call timed,$@,$(call benches,cuda))

grid: $(READY)  ## compare every layout of two and four processes with one process; rows that data/layouts lacks are added
	$(call timed,$@,OMP_NUM_THREADS=1 $(BIN)/python -c "from motif_repro.training.layouts import run_grid; run_grid('data/layouts/rows.jsonl')")

kernel-package: $(READY)  ## make the Hub kernel package in kernels/ from the library
	$(BIN)/python kernels/make_package.py

planner-rows: $(READY)  ## simulate the training steps that the planner is held against, as far as they are missing in data/planner
	OMP_NUM_THREADS=1 $(BIN)/python -c "from motif_repro.training.planner import add_rows; add_rows('data/planner/rows.jsonl')"

mutants: $(READY)  ## plant 60 bugs at random, one at a time, and see what catches each (hours); rows that data/mutants has are kept
	$(BIN)/python tests/mutants.py 60

docs: $(READY)  ## build the site: open _site/index.html
	$(call timed,$@,$(BIN)/python nbs/_docs/make_site.py)

lab: $(READY)  ## open the tour in JupyterLab
	$(BIN)/jupyter lab $(if $(filter 0,$(shell id -u)),--allow-root) --LabApp.default_url=/lab/tree/nbs/index.ipynb

notebooks: $(READY)  ## execute the library notebooks (or NOTEBOOKS=...) in place and clean them, ready to be committed
	$(BIN)/jupyter execute --inplace $(NOTEBOOKS)
	$(BIN)/nbdev-clean
	$(BIN)/nbdev-export

recipe-notebooks: reproduce  ## give the recipe notebooks the outputs of that run, ready to be committed
	$(BIN)/python nbs/_docs/adopt.py runs/$(PROFILE)/notebooks
	$(BIN)/nbdev-clean

install: $(READY) sandbox  ## make .venv with the pinned packages, and the sandbox where we may

$(READY): pyproject.toml $(CONSTRAINTS)
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; install it or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)"; exit 1; }
	@echo "Installing into .venv with $$($(PYTHON) --version): some 2 GB, a few minutes, once"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv || \
	  { echo "no virtual environment: on a Debian-like system apt-get install python3-venv"; rm -rf .venv; exit 1; }
ifeq ($(CONSTRAINTS),constraints.txt)
	@$(PIP) --no-deps '$(TORCH)+cpu' 2>/dev/null || $(PIP) --no-deps --index-url $(TORCH_INDEX) '$(TORCH)' || \
	  { echo "no CPU build of $(TORCH): name an index that holds it: make TORCH_INDEX=https://... $(MAKECMDGOALS)"; exit 1; }
endif
	@$(PIP) --use-pep517 --constraint $(CONSTRAINTS) --editable '.[dev,docs,bench]'
	@touch $@

reference: $(READY)  ## run mini and smoke and the tests, and keep what README shows
	$(MAKE) reproduce PROFILE=mini
	$(BIN)/python nbs/_docs/reference.py claims runs/mini
	$(MAKE) reproduce PROFILE=smoke
	$(BIN)/python nbs/_docs/reference.py times runs/smoke

sandbox:  # judging a program needs bubblewrap; root on a Debian-like system gets it, all others the line to type
	@command -v bwrap >/dev/null || { $(call apt,bubblewrap); } || true

system:  ## install the Debian packages that some tests use
	@dpkg --status $(SYSTEM) >/dev/null 2>&1 || { $(call apt,$(SYSTEM)); }

apt = test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && apt-get install -qq --no-install-recommends $(1) \
  || { echo "please install: sudo apt-get install $(1)"; false; }

fresh-clone:  ## what a stranger gets: test and reproduce (or GOALS=...) in a clone with an empty HOME
	@folder=$$(mktemp -d) && trap "rm -rf $$folder" EXIT && git clone --quiet . $$folder/clone && mkdir $$folder/home && \
	  HOME=$$folder/home $(MAKE) --directory $$folder/clone $(GOALS)

clean:  ## remove what was built; runs/ stays
	rm -rf .venv _site _proc build dist *.egg-info .pytest_cache
	find . -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
