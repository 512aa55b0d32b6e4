# Each target installs its requirements; a second run finds them ready.
#   make serve                        draw with the built-in Tiny at http://127.0.0.1:8000
#   make serve MODEL=Mini PORT=8080   any model, any port; ARGS="..." takes every other flag of app.py
#   make test                         every test; ARGS="-k name" and the like go to pytest
#   make test-cluster                 tests of several machines, with Ray; `make test` skips them where it is not installed
#   make test-quick PYTHON=python3.14 VENV=.venv-3.14   tests that depend on the Python version, in another environment
#   make clients                      real clients, unchanged, each in an environment of its own; five minutes
#   make soak                         long forms of tests, most of tests/faults; a quarter of an hour
#   make lint                         style and types
#   make bench                        benchmarks beside min-dalle; half an hour
#   make evaluate                     how well Tiny follows prompts
#   make train                        train Tiny from nothing on a GPU; resumes where it stopped
#   make clean                        remove the virtual environment
PYTHON ?= python3
MODEL ?= Tiny
PORT ?= 8000
ARGS ?=

VENV ?= .venv
BIN := $(VENV)/bin
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

# Tests that depend on the Python version. The others test what users and faults do to the server, the same on each.
END_TO_END := draw_command log openai_client shutdown start
QUICK := tests/test_*.py tests/engine tests/host tests/parity tests/server $(END_TO_END:%=tests/end_to_end/test_%.py)


# Tests of one process that two replicas must pass, too.
OVER_REPLICAS := api_docs dialects image_links many_callers openai_client streams waiting

# Several machines need Ray. Only they: it takes 370 MB.
CLUSTER_FLAGS := $(findstring --replicas,$(ARGS))$(DALLE_REPLICAS)

.PHONY: serve test test-cluster test-quick clients soak lint bench evaluate train clean

serve: $(VENV)/.serve-ready $(if $(CLUSTER_FLAGS),$(VENV)/.cluster-ready)
	$(BIN)/python app.py --model_version $(MODEL) --port $(PORT) $(ARGS)

test: $(VENV)/.dev-ready
	$(BIN)/python -m pytest $(ARGS)

test-cluster: $(VENV)/.dev-ready $(VENV)/.cluster-ready
	tests/cluster/loopback_only.sh $(BIN)/python -m pytest -n 0 tests/cluster $(ARGS)
	SERVER_FLAGS="--replicas 2" tests/cluster/loopback_only.sh $(BIN)/python -m pytest -n 0 $(OVER_REPLICAS:%=tests/end_to_end/test_%.py) $(ARGS)

test-quick: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m "not slow and not soak" $(QUICK) $(ARGS)

clients: $(VENV)/.dev-ready
	$(BIN)/python -m pytest -m clients tests/clients -n 0 $(ARGS)

soak: $(VENV)/.dev-ready
	FAULT_EXAMPLES=3000 $(BIN)/python -m pytest tests/faults tests/benchmarks tests/end_to_end/test_mini.py \
	  tests/parity/test_parity.py::test_logits_and_greedy_tokens_agree_at_minis_sizes -m "soak or not soak" -n 0 -s $(ARGS)

lint: $(VENV)/.dev-ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev-ready $(if $(findstring cluster,$(ARGS)),$(VENV)/.cluster-ready)
	$(BIN)/python -m benchmarks $(ARGS)

evaluate: $(VENV)/.dev-ready
	$(BIN)/python -m training.evaluate $(ARGS)

train: $(VENV)/.dev-ready
	$(BIN)/python -m training $(ARGS)

clean:
	rm -rf $(VENV)

$(VENV)/.created:
	$(PYTHON) -m venv $(VENV)
	touch $@

$(VENV)/.serve-ready: $(VENV)/.created requirements.txt
	@echo "Installing the requirements of the server; the first time takes a few minutes."
	$(INSTALL) -r requirements.txt
	touch $@

$(VENV)/.cluster-ready: $(VENV)/.created requirements-cluster.txt
	@echo "Installing Ray, for several machines."
	$(INSTALL) -r requirements-cluster.txt
	touch $@

$(VENV)/.dev-ready: $(VENV)/.created requirements.txt requirements-dev.txt
	@echo "Installing the requirements of the tests; the first time takes a few minutes."
	$(INSTALL) -r requirements-dev.txt
	touch $@
