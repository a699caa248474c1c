# make demo    sets everything up and runs the demo          make test    sets everything up and passes the tests
# ARGS="…" is passed on by both: make demo ARGS="--seconds 25", make test ARGS="tests/domain -x"

VENV    ?= .venv
PYTHON  ?= python3
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.made
SEEDS   ?= 1000
SIZE    ?= ci
MINUTES ?= 20
ARGS    ?=

API_VENV ?= .venv-api
API_STAMP := $(API_VENV)/.made

.PHONY: api demo test lint types format coverage wheel kafka bench simulate faults soak kills pythons determinism clean help

help:
	@sed -n '1,2s/^# //p' Makefile

$(STAMP): pyproject.toml constraints.txt
	@echo "setting up $(VENV), once …" >&2
	@if command -v uv >/dev/null 2>&1; then \
	  test -x $(BIN)/python || uv venv --quiet --python $(PYTHON) $(VENV); \
	  uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable . --group dev; \
	else \
	  test -x $(BIN)/python || $(PYTHON) -m venv $(VENV); \
	  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
	  $(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"; \
	  $(BIN)/python -m pip install --quiet --constraint constraints.txt --editable . --group dev; \
	fi
	@touch $(STAMP)

demo: $(STAMP)
	@$(BIN)/tailrace demo $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest $(ARGS)

$(API_STAMP): pyproject.toml constraints.txt
	@echo "setting up $(API_VENV), once …" >&2
	@test -x $(API_VENV)/bin/python || $(PYTHON) -m venv $(API_VENV)
	@$(API_VENV)/bin/python -m pip install --quiet --upgrade "pip>=25.1"
	@$(API_VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable . --group api
	@touch $(API_STAMP)

api: $(API_STAMP)
	@REQUIRE_API_TOOLS=1 $(API_VENV)/bin/python -m pytest tests/web/test_schemathesis.py tests/client $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check app tests benchmarks deploy
	@$(BIN)/ruff format --check app tests benchmarks deploy

format: $(STAMP)
	@$(BIN)/ruff check --fix --quiet app tests benchmarks deploy || true
	@$(BIN)/ruff format --quiet app tests benchmarks deploy

types: $(STAMP)
	@$(BIN)/mypy

coverage: $(STAMP)
	@$(BIN)/coverage run -m pytest -q tests/domain tests/contracts
	@$(BIN)/coverage report

OUT ?= dist
wheel: $(STAMP)
	@$(BIN)/python -m hatchling build --target wheel --directory $(OUT)

kafka: $(STAMP)
	@$(BIN)/python deploy/kafka/launch.py run --dir .kafka/play $(ARGS)

bench: $(STAMP)
	@$(BIN)/python -m benchmarks $(ARGS)

simulate: $(STAMP)
	@PYTHONPATH=. $(BIN)/python -m tests.simulation --seeds $(SEEDS) $(ARGS)

pythons: $(STAMP)
	@PYTHONPATH=. $(BIN)/python -c "from tests.determinism.__main__ import set_up; set_up()"

determinism: $(STAMP)
	@PYTHONPATH=. $(BIN)/python -m tests.determinism --setup $(ARGS)

faults: $(STAMP)
	@$(BIN)/python -m tests.faults --size $(SIZE) $(ARGS)

soak: $(STAMP)
	@$(BIN)/python -m tests.faults.soak --minutes $(MINUTES) --out benchmarks/soak.md $(ARGS)

kills: $(STAMP)
	@$(BIN)/python -m tests.faults.kills $(ARGS)

clean:
	rm -rf $(VENV) $(API_VENV) .determinism dist build .pytest_cache .mypy_cache .ruff_cache .coverage .hypothesis
