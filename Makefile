# Everything runs from .venv, made on first use. Needs python3 >= 3.11 with pip, and nothing else.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run test check fmt install bench lock clean
run: install
	@$(BIN)/opmas up

# Three files at a time: tests wait for processes and servers more than they compute. `-n 0` runs one after the other.
test: install
	@$(BIN)/python -m pytest -n 3 --dist loadfile $(ARGS)

check: install
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

fmt: install
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: install
	@$(BIN)/python -m benchmarks $(ARGS)

install: $(READY)

# The stamp is renewed when the lock or the project file changes; a warm start costs one `make` process.
$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "cannot install: OPMAS needs Python 3.11 or newer, this is %s; set PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	@echo "installing into .venv, some seconds the first time"
	@test -x $(BIN)/python || $(PYTHON) -m venv --without-pip .venv
	@test -x $(BIN)/uv || $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check "$$(sed -n 's/^\(uv==[^ ]*\).*/\1/p' requirements.lock)"
	@UV_SYSTEM_CERTS=1 $(BIN)/uv pip sync --quiet --python $(BIN)/python --require-hashes requirements.lock \
	  || $(PYTHON) -m pip --python $(BIN)/python install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@UV_SYSTEM_CERTS=1 $(BIN)/uv pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $(READY)

# Universal, with hashes, without the address of any registry.
lock:
	@UV_SYSTEM_CERTS=1 $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --group dev pyproject.toml -o requirements.lock $(ARGS)

clean:
	@rm -rf .venv
