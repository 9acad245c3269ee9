# What a person runs, and what .ci/run runs. `make` alone lists it.

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
JOBS ?= 2
DEMO := data/videos/demo
RENDERER := $(addprefix lib/minicourt/,clip.py court.py palette.py people.py scene.py)
SET ?= data/eval.toml
# The default set's clips, <level>-<seed> each, are rendered; what a set of your own names is yours.
EVAL := $(if $(filter data/eval.toml,$(SET)),$(shell sed -n 's|.*"\(videos/eval/[^"]*\)".*|data/\1/.rendered|p' data/eval.toml))

# Set PYTHON to choose one: make setup PYTHON=/opt/python3.12/bin/python3
PYTHON ?=
CANDIDATES := $(if $(PYTHON),$(PYTHON),python3.12 python3.11 python3 python)
FITS := import sys, ensurepip, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint eval compare train-tiny train-finder sportsmot bench lock clean

help: ## List these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

setup: $(READY) ## Make .venv with everything in it (about 6 GB, once)

$(READY): requirements.lock pyproject.toml
	@if ! $(BIN)/python -c "$(FITS)" >/dev/null 2>&1; then \
		for candidate in $(CANDIDATES); do \
			if "$$candidate" -c "$(FITS)" >/dev/null 2>&1; then found=$$candidate; break; fi; \
		done; \
		if [ -z "$${found:-}" ]; then \
			echo "No Python 3.11 or 3.12 with venv found (tried: $(CANDIDATES)). Install one" \
				"(Debian, Ubuntu: apt install python3.12 python3.12-venv; macOS: brew install python@3.12)" \
				"or name it: make setup PYTHON=/path/to/python3.12" >&2; \
			exit 1; \
		fi; \
		echo "Making $(VENV) with $$found"; \
		"$$found" -m venv --clear $(VENV); \
	fi
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip --upgrade
# The lock is complete, and without its desktop build of OpenCV, which trackers would pull in; so no resolving.
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup $(DEMO)/.rendered ## Render a clip, track it, and print the path of the finished report
	$(BIN)/courtside track $(DEMO)/video.mp4 --model data/models/sam3-tiny --prompt "basketball player" --labels $(DEMO)

$(DEMO)/.rendered: $(RENDERER) | $(READY)
	$(BIN)/python -m minicourt render --level game --seed 7 --frames 150 --out $(DEMO)
	@touch $@

# make eval SET=my.toml JOBS=2 OPTIONS=--markdown
eval: setup $(EVAL) ## Track a labelled set in many ways: SET=its TOML file, JOBS=at most so many at once
	$(BIN)/courtside eval "$(SET)" $(if $(filter-out file,$(origin JOBS)),--jobs $(JOBS)) $(OPTIONS)

data/videos/eval/%/.rendered: $(RENDERER) | $(READY)
	$(BIN)/python -m minicourt render --level $(word 1,$(subst -, ,$*)) --seed $(word 2,$(subst -, ,$*)) \
		--frames 150 --out data/videos/eval/$*
	@touch $@

# make compare RUNS="reports/eval/sam3 reports/eval/bytetrack" OPTIONS='--fail-if "IDF1 < -0.01"'
compare: setup ## Compare runs, or folders of runs, of the same clips: RUNS="A B"
	@test -n "$(RUNS)" || { echo "Say what to compare: make compare RUNS=\"A B\"" >&2; exit 2; }
	$(BIN)/courtside compare $(RUNS) $(OPTIONS)

test: setup lint ## Check style, run all tests, and run every notebook
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --nbval-lax --nbval-cell-timeout=300 notebooks

lint: setup ## Check style without changing anything
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

train-tiny: setup ## Train the tiny SAM 3 from nothing: hours on a CPU, minutes on a GPU; goes on where it stopped
	$(BIN)/python -m minicourt train --out data/models/training
	$(BIN)/python -m minicourt export data/models/training --out data/models/sam3-tiny

train-finder: setup ## Train what finds numbers on jerseys from nothing: an hour on a CPU; goes on where it stopped
	$(BIN)/python -m minicourt finder --training data/models/training --out lib/courtside/jersey/finder.safetensors

# make sportsmot ROOT=~/data/sportsmot OPTIONS="--split test --tracker botsort"
sportsmot: setup ## Evaluate on SportsMOT's basketball: ROOT=its folder, and OPTIONS of courtside sportsmot
	@test -n "$(ROOT)" || { echo "Say where SportsMOT is: make sportsmot ROOT=~/data/sportsmot" >&2; exit 2; }
	$(BIN)/courtside sportsmot "$(ROOT)" $(OPTIONS)

bench: setup ## Time decoding, tracking, scoring and the report, as ratios
	@for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python "$$file" || exit 1; done

lock: setup ## Resolve requirements.lock anew from pyproject.toml
	$(BIN)/python -m pip install --disable-pip-version-check uv
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 \
		--custom-compile-command "make lock" --no-emit-index-url --output-file requirements.lock

clean: ## Remove caches, the demo and the rendered set; your runs and .venv stay
	rm -rf $(DEMO) data/videos/eval reports/demo-sam3 .pytest_cache .ruff_cache
	find lib tests benchmarks notebooks \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
