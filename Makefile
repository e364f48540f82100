# The routines of this repository. `make demo` and `make test` do all the set-up by themselves.

PYTHON ?= python3
# On Linux an unpinned torch draws CUDA packages of several GB; this pin has a CPU build.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.setup
BUILT := forge_notebook/labextension/package.json
INSTALLED := $(VENV)/share/jupyter/labextensions/forge-notebook
JS_SOURCES := $(shell find js/src js/style js/schema js/scripts -type f 2>/dev/null) js/package.json
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo lab test check slow compat setup js bench docs images clean help

help: ## Say what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

demo: setup ## Train real models in a real kernel and watch them live (make demo ARGS=--exit)
	$(BIN)/forge-notebook demo $(ARGS)

lab: setup ## Open JupyterLab on the quickstart notebook
	$(BIN)/jupyter lab notebooks/01_quickstart.ipynb $(ARGS)

test: setup check ## Everything: linters, types, unit tests, notebooks, real browsers

check: setup
	PATH="$(CURDIR)/$(BIN):$$PATH" sh .ci/check

setup: $(SETUP) $(BUILT)

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit("Python 3.10 or newer is needed") if sys.version_info < (3, 10) else None'
	$(PYTHON) -m venv $(VENV)

# torch first and by itself, so that nothing else draws another build of it.
$(SETUP): pyproject.toml jupyter-config/server-config/forge_notebook.json $(VENV)/bin/python | $(BUILT)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q "$(TORCH)"
	$(BIN)/python -m pip install -q -e ".[test]"
	touch $@

js/node_modules/.package-lock.json: js/package.json js/package-lock.json
	@command -v npm >/dev/null || { echo "Node.js >= 20 with npm is needed to build the front end"; exit 1; }
	cd js && npm install --ignore-scripts --no-audit --no-fund --no-save  # not ci: it wants every platform's binaries

# A stale build would be packaged without a word: the build deletes the outputs first. JupyterLab
# loads the copy that was made when the package was installed.
$(BUILT): $(JS_SOURCES) js/node_modules/.package-lock.json
	cd js && npm run build
	@if [ -d $(INSTALLED) ]; then rm -rf $(INSTALLED)/static && cp -r $(@D)/. $(INSTALLED); fi
	@touch $@

slow: setup ## The slow lane: hundreds of kills, restarts of processes
	PATH="$(CURDIR)/$(BIN):$$PATH" pytest -q -m slow tests

compat: $(BUILT) ## The same tests on older and newer Python, Jupyter and ipykernel (make compat ARGS=oldest)
	.ci/compat $(ARGS)

bench: setup ## Measure costs and limits (make bench ARGS="hook --json out.json")
	$(BIN)/forge-notebook bench $(ARGS)

docs: setup ## Build the pages in .cache/docs: guides, notebooks, hosts, API reference
	$(BIN)/python .ci/docs.py .cache/docs
	@echo "open .cache/docs/index.html"

images: setup ## Take the pictures of the README from real trainings (needs Chromium)
	$(BIN)/python .ci/images.py

js: $(BUILT) ## Build the front end

clean: ## Delete what was built and installed here
	rm -rf $(VENV) js/node_modules js/lib forge_notebook/static forge_notebook/labextension dist
