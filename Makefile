# make demo [IMAGE=photo.png]   compress and decompress one photograph, compare with JPEG
# make test                     set up .venv with all extras, then lint, types, tests, and the wheel alone without torch
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
PIP     = $(BIN)/python -m pip install --quiet -c constraints.txt
IMAGE  ?=
ALL     = fast,export,train,eval,classic,cluster,dev

.PHONY: demo test lint types wheel clean

demo: $(VENV)/.core
	$(BIN)/python tools/demo.py $(IMAGE)

test: lint types
	$(BIN)/python -m pytest -n auto
	$(MAKE) wheel

wheel: | $(BIN)/python
	tools/check_wheel.sh $(BIN)/python

lint: $(VENV)/.all
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.all
	$(BIN)/mypy

# Stamps: an environment is made once and again only when what it is made from changes.
$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# scikit-image is not run: one of its photographs is taken.
$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e .
	$(PIP) --no-deps scikit-image
	touch $@

$(VENV)/.all: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -e '.[$(ALL)]'
	touch $@ $(VENV)/.core

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache
