# One word for everything; `make help` lists them. `setup` runs first by itself and costs nothing when done.
.POSIX:
.SUFFIXES:
.PHONY: help setup demo test check bench train-tiny eval-tiny constraints clean

VENV = .venv
BIN = $(VENV)/bin
STAMP = $(VENV)/.setup

help:
	@echo 'make setup        create .venv and install everything into it'
	@echo 'make demo         render examples/three-acts.toml to out/'
	@echo 'make check        lint, format, types and import rules'
	@echo 'make test         check, then every test'
	@echo 'make bench        measure, and write benchmarks/results.json'
	@echo 'make train-tiny   train the default checkpoint (an hour or two on two cores); goes on where it was stopped'
	@echo 'make eval-tiny    score the default checkpoint'
	@echo 'make constraints  write constraints.txt from what .venv holds'
	@echo 'make clean        remove what setup and the tools made; rendered videos and chains stay'

setup: $(STAMP)
	@:

# PYTHON names the interpreter; otherwise the first one that will do: the embedded server has stubs up to 3.13.
$(STAMP): pyproject.toml constraints.txt
	@set -e; \
	if ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		for candidate in $${PYTHON:-python3.11 python3 python3.12 python3.13}; do \
			if "$$candidate" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' \
				2>/dev/null; then python=$$candidate; break; fi; \
		done; \
		if [ -z "$${python:-}" ]; then \
			echo 'setup needs Python 3.11, 3.12 or 3.13 with venv (Debian: python3-venv); PYTHON=... names one' >&2; \
			exit 1; \
		fi; \
		echo "creating $(VENV) with $$("$$python" --version)"; \
		"$$python" -m venv --clear $(VENV); \
	fi; \
	echo 'installing (the first time this takes minutes)'; \
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'; \
	if ! command -v chromium >/dev/null; then \
		echo 'installing Chromium for the tests'; \
		if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
			apt-get update -qq >/dev/null && DEBIAN_FRONTEND=noninteractive \
				apt-get install -y -qq --no-install-recommends chromium >/dev/null 2>&1; \
		else \
			$(BIN)/python -m playwright install chromium >/dev/null; \
		fi || echo 'there is no Chromium: the tests of the page will fail' >&2; \
	fi; \
	touch $@

demo: setup
	@mkdir -p out
	@$(BIN)/longtake render examples/three-acts.toml -o out/three-acts.mp4 \
		--gif out/three-acts.gif --thumbnail out/three-acts.png --force

check: setup
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/mypy --no-error-summary
	@report=$$($(BIN)/lint-imports --no-logo) || { echo "$$report"; exit 1; }

# One run over unit, integration and acceptance, in this order, so that its last line counts every test.
test: check
	@$(BIN)/python -m pytest -q

bench: setup
	@$(BIN)/python -m benchmarks

train-tiny: setup
	@$(BIN)/python -m training

eval-tiny: setup
	@$(BIN)/python -m training.evaluation

# `+cpu` and the like name where a wheel came from, not which release it is; CUDA's parts are pinned by torch itself.
constraints:
	@set -e; { \
		echo '# The releases this project was tested with. `make setup` installs these;'; \
		echo '# `make constraints` writes this file from what .venv holds.'; \
		$(BIN)/python -m pip freeze --all --exclude-editable --exclude pip --exclude longtake \
			| sed -E -e 's/[+][a-z0-9.]+$$//' -e '/^(cuda-|nvidia-[cn]|triton=)/d'; \
	} > constraints.tmp; \
	mv constraints.tmp constraints.txt

clean:
	@rm -rf $(VENV) build dist longtake.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
