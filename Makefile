# Everything here makes its own environment in .venv; nothing but Python >= 3.11 and git is needed.
PYTHON ?= python3
VENV ?= .venv
INSTALLED = $(VENV)/.installed

.PHONY: demo test test-slurm lint types clean

demo: $(INSTALLED)
	$(VENV)/bin/python -m suites.run digits --methods itmc,baselines

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --ignore tests/slurm_cluster

# One after the other: they break what they run on.
test-slurm: $(INSTALLED)
	$(VENV)/bin/python -m pytest tests/slurm_cluster

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(INSTALLED)
	$(VENV)/bin/mypy

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; set PYTHON=..." >&2; exit 1; }
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf $(VENV)
