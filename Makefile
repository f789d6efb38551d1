# `make` lists the targets. The environment lives in .venv; stamp files there keep it from being installed twice.
PYTHON ?= python3
unexport KERAS_BACKEND  # the user's choice for other projects; this one is TensorFlow's

VENV := .venv
BIN := $(VENV)/bin
CREATED := $(VENV)/.created
INSTALLED := $(VENV)/.installed
TEST_TOOLS := $(VENV)/.test-tools
BENCHMARK_TOOLS := $(VENV)/.benchmark-tools
BROWSER_TOOLS := $(VENV)/.browser-tools
CONSTRAINTS :=  # a file of them, for test-oldest
# A worker begins with half of the tests and takes over what the other does not get to: what the tests of a file share is
# made by one of them, mostly. Each has one thread: more of them than cores spend their time on waiting for each other.
PYTEST = OMP_NUM_THREADS=1 TF_NUM_INTRAOP_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal
FAST_TESTS := $(addprefix tests/,common imaging data completion test_layers.py)
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(CONSTRAINTS:%=--constraint %)

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo app test test-fast test-oldest test-browser api docs-check benchmarks fuzz lint format clean

help: ## list the targets
	@echo "make TARGET [PYTHON=python3.12]"
	@sed -n 's/^\([a-z-]*\):[^#]*## \(.*\)/  \1|\2/p' Makefile | awk -F'|' '{ printf "%-14s  %s\n", $$1, $$2 }'

demo: $(INSTALLED) ## complete holes in sample photos, write demo/*.png
	@$(BIN)/glcic demo

app: $(INSTALLED) ## open a page to remove things from photos, at http://127.0.0.1:7860/
	@$(BIN)/glcic app

test: $(TEST_TOOLS) ## run all tests but those in a browser
	@$(PYTEST)

test-fast: $(TEST_TOOLS) ## run those of pictures, files, holes, blending and texture that take no longer than a minute together
	@$(PYTEST) -m "not slow" $(FAST_TESTS)

test-oldest: ## run them with the oldest TensorFlow and Keras that are supported, in .venv-oldest (Python 3.11 or 3.12)
	@$(MAKE) --no-print-directory test VENV=.venv-oldest CONSTRAINTS=tests/oldest.txt

test-browser: $(BROWSER_TOOLS) ## run the tests in a browser (Chromium; root gets it from Debian if it is missing)
	@command -v chromium >/dev/null || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || { \
	  echo "Installing chromium"; apt-get -qq update && apt-get -qq install -y --no-install-recommends chromium; } >&2 || true
	@$(BIN)/python -m pytest -q tests/browser

docs-check: $(TEST_TOOLS) ## run the code blocks of README.md, docs/ and the other pages as they are printed
	@$(BIN)/python tests/docs_check.py

api: $(TEST_TOOLS) ## write docs/api.md from the docstrings
	@$(BIN)/python tests/docs_api.py

BENCHMARKS :=  # flags of benchmarks/everything.py: --small, --only=startup,input
benchmarks: $(BENCHMARK_TOOLS) ## measure every ratio of README.md against PyTorch, and remake the plots of how cost grows (hours)
	@$(BIN)/python -m benchmarks.everything $(BENCHMARKS)

N := 1000
fuzz: $(TEST_TOOLS) ## spoilt files, hostile requests and killed commands, N of each (make fuzz N=1000); counts at the end
	@$(BIN)/python tests/fuzz/campaign.py $(N)

lint: $(TEST_TOOLS) ## check style and formatting
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

format: $(TEST_TOOLS) ## fix style and formatting
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean: ## remove the environment, caches and demo/
	rm -rf $(VENV) .venv-oldest demo .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A stamp is written last, so that an interrupted step is done again.
$(CREATED):
	@command -v $(PYTHON) >/dev/null || { \
	  echo "error: $(PYTHON) not found: install Python 3.11, 3.12 or 3.13, or name one: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; v = "%d.%d" % sys.version_info[:2]; v in ("3.11", "3.12", "3.13") or sys.exit( \
	  "error: $(PYTHON) is Python " + v + ", but 3.11, 3.12 or 3.13 is needed: name one, as in make PYTHON=python3.12")'
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) has no venv module: install it (Debian, Ubuntu: apt install python3-venv) and try again" >&2; exit 1; }
	@echo "Creating $(VENV)"
	@$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(INSTALLED): requirements.txt pyproject.toml $(CONSTRAINTS) $(CREATED)
	@echo "Installing requirements.txt into $(VENV) (a few minutes, 3 GB on disk)"
	@$(PIP_INSTALL) -r requirements.txt
	@touch $@

$(TEST_TOOLS): $(INSTALLED)
	@echo "Installing what the tests need into $(VENV)"
	@$(PIP_INSTALL) --editable '.[dev]'
	@touch $@

$(BENCHMARK_TOOLS): benchmarks/requirements.txt $(INSTALLED)
	@echo "Installing benchmarks/requirements.txt into $(VENV)"
	@$(PIP_INSTALL) -r benchmarks/requirements.txt
	@touch $@

$(BROWSER_TOOLS): tests/browser/requirements.txt $(TEST_TOOLS)
	@echo "Installing tests/browser/requirements.txt into $(VENV)"
	@$(PIP_INSTALL) -r tests/browser/requirements.txt
	@touch $@
