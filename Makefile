# `make run` and `make test` do all the set-up they need. Everything lives in .venv.
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 5000
PYTEST_ARGS ?=

.PHONY: help run test check ui doctor lock clean
.DEFAULT_GOAL := help

help:
	@echo 'make run      install, then run the campaign; what is finished is not run again'
	@echo 'make ui       show the lineage of every policy in MLflow (PORT=5000)'
	@echo 'make test     install, then run the tests (PYTEST_ARGS="-k name")'
	@echo 'make check    install, then check style, types and layers'
	@echo 'make doctor   say what is wrong with the installation'
	@echo 'make lock     pin the dependencies of pyproject.toml anew'
	@echo 'make clean    remove .venv and caches; the campaign stays'

run: $(VENV)/.core
	@$(BIN)/python -m flows.run

ui: $(VENV)/.core
	@$(BIN)/python -m flows.ui --port $(PORT)

doctor: $(VENV)/.core
	@$(BIN)/distil doctor

test: $(VENV)/.dev
	@bash requirements/system.sh
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(PYTEST_ARGS)

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lock: $(VENV)/.dev
	$(BIN)/uv pip compile --quiet --universal --no-annotate --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' \
	    pyproject.toml --output-file requirements/core.txt
	$(BIN)/uv pip compile --quiet --universal --no-annotate --no-emit-index-url \
	    --no-emit-find-links --custom-compile-command 'make lock' \
	    --extra dev --constraints requirements/core.txt \
	    pyproject.toml --output-file requirements/dev.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis

# The second lock holds the first one and more, so either order of the two works.
$(VENV)/.core: requirements/core.txt pyproject.toml requirements/install.sh
	@bash requirements/install.sh $(VENV) requirements/core.txt
	@touch $@

$(VENV)/.dev: requirements/dev.txt pyproject.toml requirements/install.sh
	@bash requirements/install.sh $(VENV) requirements/dev.txt
	@touch $(VENV)/.core $@
