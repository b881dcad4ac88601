# From a bare Python 3.11+ and make to a served course, green tests and a clean audit.
# Another interpreter: make PYTHON=python3.12 learn

PYTHON ?= python3
RUN := .venv/bin/python -m
PIP := $(RUN) pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable

.PHONY: help learn lab site test audit kernels figures notebooks fmt bench clean
.DELETE_ON_ERROR:

help: ## list what can be typed
	@sed -n 's/^\([a-z]*\):[^#]*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

learn: .venv/learn ## build what is stale, serve the course on 127.0.0.1, open the browser
	@.venv/bin/chainrule learn

# NOTEBOOK: the one to open; without it, the list of all.
NOTEBOOK ?= notebooks

lab: .venv/lab ## open the notebooks in JupyterLab
	.venv/bin/jupyter lab $(NOTEBOOK)

site: .venv/learn ## build the site; a warning is an error
	@.venv/bin/chainrule learn --build-only --strict

test: .venv/test site/node_modules/.package-lock.json ## everything that proves the project right
	$(RUN) ruff check
	$(RUN) ruff format --check
	$(RUN) codespell_lib *.md */*.md notebooks exercises src course.toml
	$(RUN) mypy
	$(RUN) pytest --numprocesses auto --dist loadfile -m "not alone"
	$(RUN) pytest -m alone

audit: .venv/learn site/node_modules/.package-lock.json ## check the course: text, numbers, links, figures
	.venv/bin/chainrule audit --run

# Pages and exercises must print the same with the arithmetic of other processors, and with more
# threads. KERNELS: those of OpenBLAS; what this processor cannot run is said, and not run. All:
# make kernels KERNELS="Nehalem Sandybridge Haswell SkylakeX" THREADS="1 2" CHECKS="documents exercises figures"
KERNELS ?= Nehalem
THREADS ?= 1
CHECKS ?= documents exercises
DISPATCH := from numpy._core._multiarray_umath import __cpu_dispatch__ as d, __cpu_features__ as f; \
            print(",".join(name for name in d if f.get(name)))

RUNS := import numpy; from threadpoolctl import threadpool_info as i; \
        print({pool.get("architecture") for pool in i()}.pop())

kernels: .venv/learn ## execute pages and exercises with the arithmetic of an older processor
	@for kernel in $(KERNELS); do export OPENBLAS_CORETYPE=$$kernel; \
	runs=$$(.venv/bin/python -c '$(RUNS)'); \
	if [ "$$runs" != "$$kernel" ]; then echo "$$kernel: not run, this processor has $$runs"; continue; fi; \
	for threads in $(THREADS); do echo "OPENBLAS_CORETYPE=$$kernel, threads: $$threads"; \
	CHAINRULE_THREADS=$$threads NPY_DISABLE_CPU_FEATURES="$$(.venv/bin/python -c '$(DISPATCH)')" \
	.venv/bin/chainrule audit --run $(addprefix --only ,$(CHECKS)) || exit 1; done; done

figures: .venv/learn ## redraw the figures that changed
	.venv/bin/chainrule audit --only figures --run --write

notebooks: .venv/learn ## execute the notebooks and store their outputs
	.venv/bin/chainrule audit --only notebooks --run --write

fmt: .venv/test ## format the code and fix what can be fixed
	$(RUN) ruff format
	$(RUN) ruff check --fix

bench: .venv/bench ## measure the engine beside its peers
	$(RUN) benchmarks

clean: ## remove what was built; .venv and the workbook stay
	rm -rf site/_build build dist .mypy_cache .ruff_cache .hypothesis

# Each stamp file says: this extra of pyproject.toml is installed.
.venv/python:
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "Chain Rule needs Python 3.11 or newer; type: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 2; }
	"$(PYTHON)" -m venv .venv
	@touch $@

.venv/learn: .venv/python pyproject.toml constraints.txt
	@echo "Installing the course into .venv (a few minutes the first time)"
	$(PIP) ".[learn]"
	@touch $@

.venv/lab: .venv/learn
	$(PIP) ".[lab]"
	@touch $@

.venv/test: .venv/learn
	$(PIP) ".[test]"
	@touch $@

.venv/bench: .venv/test
	$(PIP) ".[bench]"
	@touch $@

site/node_modules/.package-lock.json: site/package-lock.json .venv/learn
	@$(RUN) chainrule.node
	@touch $@
