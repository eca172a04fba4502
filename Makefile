# make lab      set up, make the phantoms, run the smoke series      make jupyter    JupyterLab on 00_start_here
# make test     set up what is missing, run the tests                make exercises  write the students' notebooks
# make bench    train and score the grid behind the tables           make html       the pages of a series run, again
# make lint     style and types only                                 make site       a web site of a series run and the tables
# make doctor   what works on this machine                           make clean      drop caches and build leftovers
#
# PYTHON=python3.12   the interpreter of .venv (3.11 or newer)
# TORCH=cpu           PyTorch's own wheel index (cpu, cu128, ...), remembered by .venv; TORCH= goes back to the usual one
# JOBS=2              processes side by side
# SUITE=lesson        the grid of `make bench`
# RUN=series/...      the run that `make html` and `make site` show; the newest if not given

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.ONESHELL:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
JOBS ?= $(shell n=$$(getconf _NPROCESSORS_ONLN); echo $$((n < 4 ? n : 4)))
SUITE ?= lesson
PHANTOMS := brain_tumour whole_heart cardiac_mr abdomen head_ct_mr
RUN ?= $(patsubst %/report.json,%,$(shell ls -t series/*/report.json 2>/dev/null | head -n 1))
PY := $(VENV)/bin/python
LAB := $(PY) -m xmod_lab
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

# .place: the folder and the wheel index that the environment was made for; another of either means a new environment.
# .installed: the check sum of what was asked for; another one means an install into the environment that is there.
PLACE := $(VENV)/.place
INSTALLED := $(VENV)/.installed
TORCH ?= $(shell sed -n 2p $(PLACE) 2>/dev/null)
SUM := $(shell cat pyproject.toml setup.py constraints.txt | cksum)
WANTED = $(CURDIR) $(TORCH) $(SUM)
FOUND := $(shell $(PY) -c pass 2>/dev/null && cat $(PLACE) $(INSTALLED) 2>/dev/null)
ifneq "$(strip $(FOUND))" "$(strip $(WANTED))"
.PHONY: $(INSTALLED)
endif

.PHONY: help setup lab test jupyter bench exercises html site lint doctor clean

help:
	@sed -n '/^#/!q;s/^# \{0,1\}//p' Makefile

setup: $(INSTALLED)

$(INSTALLED):
	@place="$$(printf '%s\n%s' "$(CURDIR)" "$(TORCH)")"
	if ! $(PY) -c pass 2>/dev/null || [ "$$(cat $(PLACE) 2>/dev/null)" != "$$place" ]; then
		test -n "$(PYTHON)" || { echo "Python 3.11 or newer was not found: install it, or name it with PYTHON=..."; exit 1; }
		echo "making $(VENV) with $$($(PYTHON) -V); about 180 packages follow, which takes minutes the first time"
		$(PYTHON) -m venv --clear $(VENV)
		echo "$$place" > $(PLACE)
	fi
	$(PY) -m pip install $(if $(TORCH),--extra-index-url https://download.pytorch.org/whl/$(TORCH)) \
		-c constraints.txt -e ".[all]"
	$(PY) -m pip check
	echo "$(SUM)" > $(INSTALLED)

lab: $(INSTALLED)
	@for key in $(PHANTOMS); do $(LAB) data make $$key --subjects 12 --jobs $(JOBS); done
	$(LAB) data register head_ct_mr > /dev/null  # once: notebooks of pairs find it done
	$(LAB) series run --profile smoke --jobs $(JOBS)

# One thread a worker: two workers with two threads each on two cores run five times slower.
test: $(INSTALLED)
	@OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS)

jupyter: $(INSTALLED)
	@$(PY) -m jupyterlab notebooks/00_start_here.ipynb

bench: $(INSTALLED)
	@$(LAB) bench run --suite $(SUITE) --jobs $(JOBS)
	$(LAB) bench report --suite $(SUITE)

exercises: $(INSTALLED)
	@$(LAB) series exercises

html: $(INSTALLED)
	@test -n "$(RUN)" || { echo "no run of the series is there yet: make lab"; exit 1; }
	$(LAB) series html "$(RUN)"

site: $(INSTALLED)
	@$(LAB) site $(if $(RUN),--run "$(RUN)")

lint: $(INSTALLED)
	@$(PY) -m ruff check .
	$(PY) -m mypy

doctor: $(INSTALLED)
	@$(LAB) doctor

# Keeps .venv, data and runs: they cost minutes or hours.
clean:
	@rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis cache
	find xmod_lab tests notebooks benchmarks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
