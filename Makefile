# make demo    sets everything up and runs the demo          make test    sets everything up and passes the tests
# ARGS="…" is passed on by both: make demo ARGS="--seconds 25", make test ARGS="tests/domain -x"

VENV    ?= .venv
PYTHON  ?= python3
BIN     := $(VENV)/bin
STAMP   := $(VENV)/.made
FAST    ?= .venv-fast
API     ?= .venv-api
EXAMPLES ?= 1000000
SEEDS   ?= 1000
SIZE    ?= ci
MINUTES ?= 20
ARGS    ?=

.PHONY: api demo test lint types format coverage dashboards deployment incident pictures wheel kafka bench bench-growth bench-workloads micro \
  profile simulate faults soak kills guides pythons determinism compiled million clean help

help:
	@sed -n '1,2s/^# //p' Makefile

define set_up  # a folder, what is installed into it, and with which group of packages
	@echo "setting up $(1), once …" >&2
	@if command -v uv >/dev/null 2>&1; then \
	  test -x $(1)/bin/python || uv venv --quiet --python $(PYTHON) $(1); \
	  uv pip install --quiet --python $(1)/bin/python --constraint constraints.txt --editable '$(2)' --group $(3); \
	else \
	  test -x $(1)/bin/python || $(PYTHON) -m venv $(1); \
	  $(1)/bin/python -m pip --version >/dev/null 2>&1 || $(1)/bin/python -m ensurepip >/dev/null; \
	  $(1)/bin/python -m pip install --quiet --upgrade "pip>=25.1"; \
	  $(1)/bin/python -m pip install --quiet --constraint constraints.txt --editable '$(2)' --group $(3); \
	fi
	@touch $(1)/.made
endef

$(STAMP): pyproject.toml constraints.txt
	$(call set_up,$(VENV),.,dev)

$(FAST)/.made: pyproject.toml constraints.txt
	$(call set_up,$(FAST),.[fast],dev)

$(API)/.made: pyproject.toml constraints.txt
	$(call set_up,$(API),.,api)

demo: $(STAMP)
	@$(BIN)/tailrace demo $(ARGS)

test: $(STAMP)
	@$(BIN)/python -m pytest $(ARGS)

api: $(API)/.made
	@REQUIRE_API_TOOLS=1 $(API)/bin/python -m pytest tests/web/test_schemathesis.py tests/client $(ARGS)

lint: $(STAMP)
	@$(BIN)/ruff check app tests benchmarks deploy
	@$(BIN)/ruff format --check app tests benchmarks deploy

format: $(STAMP)
	@$(BIN)/ruff check --fix --quiet app tests benchmarks deploy || true
	@$(BIN)/ruff format --quiet app tests benchmarks deploy

types: $(STAMP)
	@$(BIN)/mypy

# Two halves side by side, each with data of its own.
COVERED := domain contracts
coverage: $(STAMP)
	@$(BIN)/coverage erase
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target $(COVERED:%=cover-%)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

cover-%: $(STAMP)
	@NUMBA_DISABLE_JIT=1 $(BIN)/coverage run --parallel-mode -m pytest -q tests/$*

COMPILED := tests/contracts/test_compiled.py tests/domain/models/test_fused.py tests/domain/test_learning_compiled.py tests/domain/evaluation
compiled: $(FAST)/.made
	@TAILRACE_REQUIRE_NUMBA=1 $(FAST)/bin/python -m pytest -q $(COMPILED) $(ARGS)

million: $(FAST)/.made
	@PYTHONPATH=. $(FAST)/bin/python -m tests.contracts.million --examples $(EXAMPLES) $(ARGS)

# What makes and checks deploy/ are tools of developers, in an environment of their own.
DEPLOY := .deploy

$(DEPLOY)/.made: deploy/requirements.txt
	@test -x $(DEPLOY)/bin/python || $(PYTHON) -m venv $(DEPLOY)
	@$(DEPLOY)/bin/python -m pip install --quiet --requirement deploy/requirements.txt
	@touch $@

dashboards: $(DEPLOY)/.made
	@$(DEPLOY)/bin/python deploy/grafana/generate.py $(ARGS)

deployment: $(DEPLOY)/.made
	@$(DEPLOY)/bin/python deploy/grafana/generate.py --check
	@$(DEPLOY)/bin/hadolint --no-color deploy/Dockerfile
	@$(DEPLOY)/bin/docker-compose --file deploy/compose.yaml config --quiet
	@promtool check rules --lint=all deploy/prometheus/rules/*.yml
	@promtool test rules deploy/prometheus/tests/*.yml
	@promtool check config deploy/prometheus/prometheus.yml
	@amtool check-config deploy/prometheus/alertmanager.yml

incident: $(STAMP)
	@PYTHONPATH=. $(BIN)/python -m tests.incident $(ARGS)

# Draws all dashboards as the last `make incident ARGS="--keep .incident"` left them.
pictures: $(DEPLOY)/.made
	@$(DEPLOY)/bin/python -m pip install --quiet "matplotlib>=3.9,<4"
	@$(DEPLOY)/bin/python deploy/grafana/render.py --data .incident --out .incident

OUT ?= dist
wheel: $(STAMP)
	@$(BIN)/python -m hatchling build --target wheel --directory $(OUT)

kafka: $(STAMP)
	@$(BIN)/python deploy/kafka/launch.py run --dir .kafka/play $(ARGS)

bench: $(FAST)/.made
	@$(FAST)/bin/python -m benchmarks $(ARGS)

bench-growth: $(FAST)/.made
	@$(FAST)/bin/python -m benchmarks.growth $(ARGS)

bench-workloads: $(FAST)/.made
	@$(FAST)/bin/python -m benchmarks.workloads $(ARGS)

micro: $(FAST)/.made
	@$(FAST)/bin/python -m benchmarks.micro $(ARGS)

profile: $(FAST)/.made
	@$(FAST)/bin/python -m benchmarks.profile $(ARGS)

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

guides: $(STAMP)
	@WORK_THROUGH_GUIDES=1 $(BIN)/python -m pytest -q tests/house/test_guides.py $(ARGS)

kills: $(STAMP)
	@$(BIN)/python -m tests.faults.kills $(ARGS)

clean:
	rm -rf $(VENV) $(FAST) $(API) .bench .deploy .determinism dist build .pytest_cache .mypy_cache .ruff_cache .coverage .hypothesis
