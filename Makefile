# Everything a fresh clone needs is Python 3.11 or newer and make: each target makes .venv and installs into it once.
#   make demo       train and compare a planner that learns, end to end (the main job of the package)
#   make check      ruff and pyright
#   make test       the checks and the test suite, a quarter of an hour on two cores
#   make test-long, test-slow  the tests marked long, as many minutes again, and those marked slow
#   make docs       the site, in docs/_build/html; runs the course (linkcheck: its links)
#   make test-browser  the live page in a real browser
#   make test-portable, make test-instructions, make sanitize: the two backends apart, see below

# The newest interpreter on PATH that starts and is new enough; `make PYTHON=/path/to/python3.12 test` overrides it.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
# Test processes. XLA compiles on one core, so two processes halve the time on two cores; more gain little.
WORKERS ?= 2
PYTEST_ARGUMENTS ?=

# What an installation is made of, beside the Python files, which it reads in place.
SOURCES := pyproject.toml native/CMakeLists.txt $(wildcard native/src/*)

BIN := .venv/bin
# pyright runs on node: the one on PATH, else one that comes as a wheel.
NODE := $(if $(shell command -v node 2>/dev/null),,pyright[nodejs])
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# What the tests of the PyTorch layer run with. Installed before what asks for any PyTorch, which pip would otherwise
# answer with the newest build and gigabytes of CUDA.
TORCH ?= torch==2.13.0

export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1
export MPLBACKEND := Agg

.PHONY: demo check test test-long test-portable test-instructions test-slow test-browser sanitize docs linkcheck clean

demo: .venv/.installed
	$(BIN)/planahead demo

check: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/pyright

test: check
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadgroup $(PYTEST_ARGUMENTS)

# What solves, differentiates and decides once more, with the native kernel left out: ten minutes on two cores. Of the rooms'
# tests those of the QPs run over both backends anyway; `make test-portable PORTABLE=tests` takes more than an hour.
PORTABLE := tests/qp tests/planning tests/policies
test-portable: .venv/.installed-dev
	PLANAHEAD_NATIVE=0 $(BIN)/pytest --numprocesses $(WORKERS) --dist loadgroup $(PORTABLE) $(PYTEST_ARGUMENTS)

# The kernel's other instruction sets, beside the portable solver and by the optimality conditions.
EVERY_LENGTH := -m 'not slow and not browser'
KERNEL_TESTS := tests/qp/test_native.py tests/qp/test_stress.py tests/tape/test_evaluate.py
test-instructions: .venv/.installed-dev
	for isa in generic avx2; do \
		PLANAHEAD_ISA=$$isa $(BIN)/pytest --numprocesses $(WORKERS) --dist loadgroup $(EVERY_LENGTH) $(KERNEL_TESTS) $(PYTEST_ARGUMENTS) || exit 1; done

# The native kernel under AddressSanitizer, UndefinedBehaviorSanitizer and ThreadSanitizer.
sanitize:
	native/tests/sanitize.sh

# Warnings are errors, a script of the course that fails too.
SPHINX = $(BIN)/sphinx-build --fail-on-warning --keep-going --quiet
docs: .venv/.installed-docs
	$(SPHINX) -b html docs docs/_build/html
linkcheck: .venv/.installed-docs
	$(SPHINX) -D plot_gallery=0 -b linkcheck docs docs/_build/linkcheck

test-long: .venv/.installed-dev
	$(BIN)/pytest --numprocesses $(WORKERS) --dist loadgroup -m long $(PYTEST_ARGUMENTS)

test-slow: .venv/.installed-dev
	$(BIN)/pytest -m slow $(PYTEST_ARGUMENTS)

# The live page in Debian's Chromium, which is installed where that can be done; skipped, with the reason, where it is not there.
test-browser: .venv/.installed-dev
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
		apt-get update --quiet --quiet && DEBIAN_FRONTEND=noninteractive apt-get install --yes --quiet --quiet --no-install-recommends chromium >/dev/null; } || \
		echo "no Chromium, and none could be installed"
	$(BIN)/pytest -m browser tests/viewer -rs $(PYTEST_ARGUMENTS)

# Stamps, not the directories, say what was installed: an interrupted installation is repeated, a new pyproject.toml too.
.venv/.created:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or newer on PATH; install one or run 'make PYTHON=/path/to/python3.12'."; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

.venv/.installed: $(SOURCES) | .venv/.created
	@echo "Installing planahead into .venv (once, two to five minutes)"
	$(INSTALL) --editable .
	@touch $@

.venv/.installed-dev: $(SOURCES) | .venv/.created
	@echo "Installing planahead and its test tools into .venv (once, three to five minutes)"
	$(INSTALL) $(TORCH)
	$(INSTALL) --editable '.[dev]' $(if $(NODE),'$(NODE)')
	@touch .venv/.installed $@

.venv/.installed-docs: pyproject.toml .venv/.installed
	$(INSTALL) $(TORCH)
	$(INSTALL) --editable '.[docs, torch]'
	@touch $@

clean:
	rm -rf .venv build dist docs/_build docs/course .pytest_cache .ruff_cache .jax_cache
