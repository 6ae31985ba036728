# Every recipe is a line or two that a person could type; `make` alone lists the targets.

# The first of these that the pinned versions fit; another one: make install PYTHON=/path/to/python
FITS     = (3, 11) <= sys.version_info[:2] <= (3, 14)
PYTHON  ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
    $$name -c 'import sys; sys.exit(not $(FITS))' 2> /dev/null && command -v $$name && break; done)
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
# A file of tests is one worker's, and a worker computes on one core.
PYTEST     = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile
GENERATE   = $(BIN)/shnet data make refshapes --out data/refshapes

# Linux hands freed memory back after every step of a training and clears it anew for the next one.
# Keeping it makes a step on a CPU faster; so does, beside other programs, a thread that waits for
# another one for less long before it sleeps: docs/performance.md has the figures.
export GLIBC_TUNABLES ?= glibc.malloc.mmap_max=0:glibc.malloc.trim_threshold=17179869184
export GOMP_SPINCOUNT ?= 10000

# A kernel from elsewhere with our kernel's name would run the notebooks.
unexport JUPYTER_PATH

.DEFAULT_GOAL := help
.PHONY: help install lab train lessons exercises reset test test-all bench bench-gpu data lock clean

# The lessons and the tests read RefShapes, whatever DATA is.
lab lessons test test-all: override DATA := data/refshapes

help:  ## list the targets
	@awk -F ':.*## *' '/^[a-z-]+:.*##/ { printf "make %-9s %s\n", $$1, $$2 }' Makefile

install: $(INSTALLED)  ## make the environment .venv, and nothing else: PYTHON=/path/to/python INDEX=https://...

lab: $(INSTALLED) data  ## open the course in JupyterLab
	$(BIN)/jupyter lab

train: $(INSTALLED) $(REFSHAPES)  ## train and evaluate: DATASET=unc DATA=/folder PRESET=unc-320 RUN=runs/x RESUME=1
	@$(BIN)/python -m shnet_course.tools.train_notebook --preset "$(PRESET)" --dataset "$(DATASET)" \
	    --data "$(DATA)" --run "$(RUN)" --set "$$SET" $(if $(RESUME),--resume)

lessons: $(INSTALLED) data  ## run the lessons on clean kernels and keep their outputs: make lessons LESSONS=03_sfm
	$(BIN)/python -m shnet_course.tools.make_lessons $(foreach name,$(LESSONS),$(or $(wildcard */text/$(name).py),$(name)))

exercises: $(INSTALLED)  ## make the exercises from their solutions; one that you wrote in is left alone
	$(BIN)/python -m shnet_course.tools.make_exercises $(wildcard solutions/text/*.py)

reset: $(INSTALLED)  ## begin an exercise anew, with your work kept beside it: make reset EXERCISE=07_evaluation
	$(BIN)/python -m shnet_course.tools.make_exercises --reset solutions/text/$(EXERCISE)_sol.py

test: $(TESTABLE) data  ## run the fast checks on two cores: ruff and the tests; COV=1 measures coverage
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) --no-loadscope-reorder $(if $(COV),--cov)

# Lesson 10 is trained by a slow test, with 20 steps in place of the 4,000 that it stores.
test-all: $(TESTABLE) data  ## run what make test leaves out: slow and long tests, every notebook, the browser
	$(PYTEST) --no-loadscope-reorder -m "slow or long"
	$(PYTEST) --nbval-lax --nbval-cell-timeout 1800 --nbval-current-env --timeout 2400 notebooks --ignore notebooks/10_train_unc.ipynb

bench: $(INSTALLED)  ## measure speed and memory, half an hour or more: docs/performance.md
	$(BIN)/python -m benchmarks

bench-gpu: $(INSTALLED)  ## measure on a GPU, eight minutes: OUT=FOLDER
	$(BIN)/python -m benchmarks.gpu --out "$(OUT)"

data: $(INSTALLED)  ## generate RefShapes, once; or fetch: make data DATASET=unc DATA=/folder FETCH="--glove"
	$(if $(REFSHAPES),$(GENERATE),$(BIN)/shnet data fetch --dataset "$(DATASET)" --data "$(DATA)" $(FETCH))

# One list for Python 3.11.0 to 3.14 on Linux, macOS and Windows; the versions of today's list are
# kept where they can be. The newest ones: rm constraints.txt first.
lock: $(BIN)/uv  ## renew constraints.txt from pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11.0 --all-extras \
	    --no-header --no-annotate pyproject.toml -o constraints.txt

clean:  ## remove what make made, but neither data nor runs
	rm -rf $(VENV) *.egg-info .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*

$(BIN)/python:
	$(if $(PYTHON),,$(error There is no Python from 3.11 to 3.14 on the PATH. Install one, or name it: make install PYTHON=/path/to/python))
	@$(PYTHON) -c 'import sys; $(FITS) or sys.exit("The course needs Python 3.11 to 3.14, and $(PYTHON) is %d.%d. Name another one: make install PYTHON=python3.12" % sys.version_info[:2])'
	@$(PYTHON) -c 'import ensurepip' 2> /dev/null || { echo '$(PYTHON) cannot make an environment: apt install python3-venv' >&2; exit 1; }
	@echo "The environment $(VENV) is made with $(PYTHON), $$($(PYTHON) --version)."
	$(PYTHON) -m venv $(VENV)

# uv installs in less than a minute what takes pip three; pip does it where uv cannot. Compiled once here,
# the packages are not compiled again by every process where Python may write nothing beside them.
$(BIN)/uv: | $(BIN)/python
	-$(BIN)/python -m pip install --quiet --constraint constraints.txt uv

WITH    = $(if $(INDEX),--extra-index-url $(INDEX)) -c constraints.txt -e '.[$(1)]'
install = $(BIN)/uv pip install --compile-bytecode --python $(BIN)/python --index-strategy unsafe-best-match $(WITH) \
    || $(BIN)/python -m pip install $(WITH)

$(INSTALLED): pyproject.toml constraints.txt | $(BIN)/uv
	$(call install,course)
	@touch $@

$(TESTABLE): $(INSTALLED)
	$(call install,test)
	@touch $@
