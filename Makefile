# Everything here needs `make` and Python 3.11, 3.12 or 3.13; the first target that needs .venv makes it.

# The first of these that suits is used. To choose: delete .venv, then make PYTHON=/path/to/python3.12
PYTHON ?= python3 python3.13 python3.12 python3.11

# A Python is run, not just looked up: a pyenv shim may exist and still fail.
version = $(shell $(1) -c 'import sys, importlib.util as u; \
	print("%d.%d" % sys.version_info[:2] + ("" if u.find_spec("ensurepip") else "-without-venv"))' 2>/dev/null)
suitable = $(firstword $(foreach p,$(PYTHON),$(if $(filter 3.11 3.12 3.13,$(call version,$p)),$p)))
found = $(foreach p,$(PYTHON),$p: $(or $(call version,$p),none);)

PIP = .venv/bin/python -m pip -qq --disable-pip-version-check

.PHONY: help reacher pendulum demos test slow lint lock study

help:  ## list these targets
	@sed -n 's/^\([a-z]*\): .*## */\1 /p' $(MAKEFILE_LIST) | while read -r name does; do \
		printf 'make %-10s %s\n' "$$name" "$$does"; done

reacher: .venv/installed  ## train on Reacher-v5, or go on with runs/reacher where it stopped
pendulum: .venv/installed  ## the same on Pendulum-v1, in runs/pendulum
reacher pendulum:
	@.venv/bin/python -m tfsac.train --gin_file=gin/$@.gin --logdir=runs/$@ \
		$(if $(wildcard runs/$@/checkpoints/step-*),--resume)
	@echo 'The results are in runs/$@'

demos: .venv/installed  ## write pages and clips of the released policies into artifacts/demos
	@.venv/bin/python -m tfsac.demos --policies=export/policies --out=artifacts/demos

test: .venv/installed  ## run the tests that take seconds
	@.venv/bin/python -m pytest

slow: .venv/installed  ## run the tests that take minutes
	@.venv/bin/python -m pytest -m slow

lint: .venv/installed  ## check style and layout with ruff, types of the public names with mypy
	@.venv/bin/ruff check
	@.venv/bin/ruff format --check
	@.venv/bin/mypy

# Many hours, in any number of calls: what is in benchmarks/study/results/ is not run again. The peers need environments
# of their own: make study PEERS='--sb3=PYTHON --sbx=PYTHON', see benchmarks/peers/.
study: .venv/installed benchmarks/pendulum_optimum.csv benchmarks/reacher_optimum.csv  ## rerun the study, or go on with it
	@$(PIP) install --require-hashes -r benchmarks/study/requirements.txt
	@.venv/bin/python benchmarks/study/budget.py
	@.venv/bin/python benchmarks/study/runs.py $(PEERS)
	@.venv/bin/python benchmarks/study/ablation.py
	@.venv/bin/python benchmarks/study/report.py

# Optimal control on the starts of evaluations; made once, since nothing of ours changes it.
benchmarks/%_optimum.csv: | .venv/installed
	@.venv/bin/python benchmarks/$*_optimum.py

# Pins move only where pyproject.toml makes them; `make lock UPGRADE=--upgrade` moves them all.
# One version of a package for every Python (fewest) and wheels only (no-build): nothing is compiled.
lock: .venv/installed  ## write requirements.lock anew from pyproject.toml
	@.venv/bin/uv pip compile --quiet --universal --python-version 3.11 --fork-strategy fewest --no-build \
		--all-extras --generate-hashes --custom-compile-command 'make lock' $(UPGRADE) \
		--output-file requirements.lock pyproject.toml

# Of pip's hundreds of lines: each file of 10 MB or more, that it begins to unpack, and everything from an error on.
shown = sed -un -e '/^ *ERROR:/,$$p' -e 's/^Installing collected packages.*/  unpacking them/p' -e \
	's/.*\(Downloading\|Using cached\) \(.*\/\)*\([^-]*\)-\([^-]*\)-.*(\([1-9][0-9][0-9]*\)[.0-9]* MB)$$/  \3 \4, \5 MB/p'

# The two stamps are written last, so a set-up that was interrupted starts again.
.venv/locked: requirements.lock
	$(if $(suitable),,$(error tfsac needs Python 3.11, 3.12 or 3.13 with its venv module; found $(found) \
		install one (Debian: python3 and python3-venv) or name one: make PYTHON=/path/to/python3.12))
	$(if $(shell test -L .venv && echo yes),$(error .venv is a link; expected a directory of its own, since \
		it is emptied before it is set up: remove the link (rm .venv) and call make again))
	@echo 'Setting up .venv with $(suitable): a few minutes, 3.3 GB. Large packages are named as they come:'
	@$(suitable) -m venv --clear .venv
	@{ .venv/bin/python -m pip --disable-pip-version-check install --progress-bar off --require-hashes \
		--only-binary :all: -r requirements.lock 2>&1; echo $$? >.venv/status; } | $(shown); exit $$(cat .venv/status)
	@touch $@

# The project itself, straight from this folder; it asks no index.
.venv/installed: .venv/locked pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@
