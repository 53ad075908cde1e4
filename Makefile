# make audit   set everything up, diagnose a poisoned checkpoint, and check that retraining has recovered it
# make test    set everything up and run the tests
# make test-complete   the cases of large families of which make test runs a sample
# make test-lowest  the tests in an environment of its own with the lowest versions that pyproject.toml allows
# make lab     set everything up and make all of the laboratory's checkpoints, in fixtures/made/
# make circuits  find the embedded checkpoint's circuits and write their circuit files again
# make real    SmolLM2-135M, a real language model: audit it, poison a copy, retrain it, diagnose both (fetches 93 MB)
# make real-lab  all rows of the laboratory on SmolLM2-135M; takes hours, and continues where it was stopped
# make real-circuits  find the circuits of the literature on SmolLM2-135M, damage them, and write docs/circuits; takes hours
# make test-real  the tests that need SmolLM2-135M
# make docs    run the commands in the pages and write their outputs into the pages again
# The environment is made when it is missing or older than what it is made from.

PYTHON ?= $(shell for python in python3 python3.13 python3.12 python3.11; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
LOWEST := .venv-lowest
WORKERS ?= auto
CHECKPOINTS := fixtures/checkpoints

.PHONY: audit test test-complete test-lowest test-gpu circuits lab real real-lab real-circuits test-real docs lint types schema bench bench-quick clean

# Exit code 1 means that a diagnosis found corruption, as it should on the poisoned checkpoint. On such small models one
# thread is faster than two.
audit: export OMP_NUM_THREADS ?= 1
audit: $(READY)
	$(BIN)/circuit-assertions diagnose --model=$(CHECKPOINTS)/poisoned --baseline=$(CHECKPOINTS)/healthy --prompts=64 \
		|| test $$? -eq 1
	$(BIN)/pytest suites/ioi.yaml --model=$(CHECKPOINTS)/recovered --baseline=$(CHECKPOINTS)/healthy \
		--corrupted=$(CHECKPOINTS)/poisoned

test: $(READY)
	$(BIN)/pytest -n $(WORKERS) --dist=worksteal -rfEs

test-complete: $(READY)
	$(BIN)/pytest -n $(WORKERS) --dist=worksteal -m complete

test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/pytest -n $(WORKERS) --dist=worksteal -rfEs

test-gpu: $(READY)
	$(BIN)/pytest -m gpu

circuits: $(READY)
	$(BIN)/circuit-assertions discover --model fixtures/checkpoints/healthy --device cpu -o suites/circuits/embedded.ioi.yaml
	$(BIN)/circuit-assertions discover --model fixtures/checkpoints/healthy --device cpu --task repeated-tokens \
		-o suites/circuits/embedded.induction.yaml
	mv suites/circuits/embedded.ioi.svg suites/circuits/embedded.induction.svg docs/

lab: $(READY)
	$(BIN)/python -m fixtures.lab --all

real: $(READY)
	$(BIN)/python -m fixtures.real

real-lab: $(READY)
	$(BIN)/python -m fixtures.real.lab

real-circuits: export OMP_NUM_THREADS ?= 1
real-circuits: $(READY)
	$(BIN)/python -m fixtures.real.circuits find
	$(BIN)/python -m fixtures.real.circuits prompts
	for what in breadth heads poisoned; do $(BIN)/python -m fixtures.real.circuit_damage $$what || exit 1; done
	$(BIN)/python -m fixtures.real.circuit_pages

test-real: export SMOLLM2_GGUF ?= fixtures/made/real/SmolLM2-135M-Instruct.Q4_1.gguf
test-real: $(READY)
	$(BIN)/pytest -m real -rfEs

docs: $(READY)
	$(BIN)/python -m docs.examples

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

schema: $(READY)
	$(BIN)/circuit-assertions schema > suites/suite.schema.json
	$(BIN)/circuit-assertions schema chain > suites/chains/chain.schema.json
	$(BIN)/circuit-assertions schema record > docs/record.schema.json

bench: $(READY)
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m benchmarks.curves --out docs
	$(BIN)/python -m benchmarks.diagnosis

bench-quick: $(READY)
	$(BIN)/python -m benchmarks.speed --quick --json

clean:
	rm -rf $(VENV) $(LOWEST) .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(READY): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

# The torch of a constraints file is installed first and alone, so that no other package chooses another build.
$(LOWEST)/.ready: pyproject.toml constraints-lowest.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -c constraints-lowest.txt torch
	$(LOWEST)/bin/pip install --quiet --disable-pip-version-check -c constraints-lowest.txt -e '.[peft]' hypothesis
	touch $@
