# Every recipe is a line or two that a person could type; `make` alone lists the targets.

PYTHON  ?= python3
VENV    ?= .venv
DATASET ?= refshapes-unc
# UNC, UNC+ and G-Ref share one folder, with the photos in it.
DATA    ?= $(if $(filter refshapes%,$(DATASET)),data/refshapes,data/unc)
PRESET  ?= quick
NOW     := $(shell date +%Y%m%d-%H%M%S)
RUN     ?= runs/$(DATASET)-$(PRESET)-$(NOW)
OUT     ?= runs/gpu-$(NOW)

BIN       := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TESTABLE  := $(VENV)/.installed-with-tests
LESSONS   ?= $(basename $(notdir $(wildcard notebooks/text/*.py solutions/text/*.py)))
# RefShapes is generated when the run reads it; other data sets are only read.
REFSHAPES = $(if $(filter data/refshapes,$(DATA)),data)
GENERATE   = $(BIN)/python -m shnet_lib.data.refshapes --out data/refshapes

# Linux hands freed memory back after every step of a training and clears it anew for the next one.
# Keeping it makes a step on a CPU a tenth faster: docs/performance.md.
export GLIBC_TUNABLES ?= glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184

.DEFAULT_GOAL := help
.PHONY: help lab train lessons exercises reset test test-long bench bench-gpu data lock clean

# The lessons and the tests read RefShapes, whatever DATA is.
lab lessons test: override DATA := data/refshapes

help:  ## list the targets
	@awk -F ':.*## *' '/^[a-z-]+:.*##/ { printf "make %-9s %s\n", $$1, $$2 }' Makefile

lab: $(INSTALLED) data  ## open the course in JupyterLab
	$(BIN)/jupyter lab

train: $(INSTALLED) $(REFSHAPES)  ## train and evaluate: DATASET=unc DATA=/folder PRESET=unc-320 RUN=runs/x RESUME=1
	$(BIN)/python -m shnet_lib.data.check --dataset "$(DATASET)" --data "$(DATA)"
	@mkdir -p "$(RUN)" && rm -f "$(RUN)/metrics.json"
	@echo 'To go on after an interruption: the same command with RUN=$(RUN) RESUME=1'
	$(BIN)/papermill notebooks/10_train_unc.ipynb "$(RUN)/10_train_unc.ipynb" --cwd notebooks \
	    --progress-bar --log-output -p preset "$(PRESET)" -p dataset "$(DATASET)" \
	    -p data "$$(cd "$(DATA)" && pwd)" -p run_folder "$$(cd "$(RUN)" && pwd)" \
	    -p settings '$(SET)' $(if $(RESUME),-p resume True)
	@$(BIN)/python -c 'import json, sys; print(json.dumps(json.load(sys.stdin)))' < "$(RUN)/metrics.json"

lessons: $(INSTALLED) data  ## run the lessons on clean kernels and keep their outputs: make lessons LESSONS=03_sfm
	$(BIN)/python -m shnet_lib.teaching.lessons $(foreach name,$(LESSONS),$(or $(wildcard */text/$(name).py),$(name)))

exercises: $(INSTALLED)  ## make the exercises from their solutions; one that you wrote in is left alone
	$(BIN)/python -m shnet_lib.teaching.exercises $(wildcard solutions/text/*.py)

reset: $(INSTALLED)  ## begin an exercise anew, with your work kept beside it: make reset EXERCISE=07_evaluation
	$(BIN)/python -m shnet_lib.teaching.exercises --reset solutions/text/$(EXERCISE)_sol.py

test: $(TESTABLE) data  ## run every check: ruff, the tests with coverage, the notebooks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest --cov=shnet_lib
	SHNET_PRESET=smoke $(BIN)/python -m pytest --nbval-lax --nbval-cell-timeout 600 --nbval-current-env --timeout 900 notebooks

test-long: $(TESTABLE)  ## the checks that take minutes: many more mutated files
	$(BIN)/python -m pytest -m long

bench: $(INSTALLED)  ## measure speed and memory, ten minutes: docs/performance.md
	$(BIN)/python -m benchmarks

bench-gpu: $(INSTALLED)  ## measure on a GPU, eight minutes: OUT=FOLDER
	$(BIN)/python -m benchmarks.gpu --out "$(OUT)"

data: $(INSTALLED)  ## generate RefShapes, once; or fetch: make data DATASET=unc DATA=/folder FETCH="--glove"
	$(if $(REFSHAPES),$(GENERATE),$(BIN)/python -m shnet_lib.data.fetch --dataset "$(DATASET)" --data "$(DATA)" $(FETCH))

# The oldest Python that the course supports decides, so that every later one can install the same
# versions. aiohttp is what Python 3.12 needs besides (papermill), appnope what macOS needs.
lock:  ## renew constraints.txt: make lock PYTHON=python3.11
	@$(PYTHON) -c 'import sys; sys.version_info[:2] == (3, 11) or sys.exit("make lock needs Python 3.11, the oldest supported: make lock PYTHON=python3.11")'
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install -e ".[test]" aiohttp appnope
	.venv-lock/bin/python -m pip freeze --all --exclude pip --exclude-editable > .venv-lock/constraints.txt
	mv .venv-lock/constraints.txt constraints.txt && rm -rf .venv-lock

clean:  ## remove what make made, but neither data nor runs
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("The course needs Python 3.11 or newer, and $(PYTHON) is %d.%d. Name a newer one: make PYTHON=python3.12" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -c constraints.txt -e .
	@touch $@

$(TESTABLE): $(INSTALLED)
	$(BIN)/python -m pip install -c constraints.txt -e ".[test]"
	@touch $@
