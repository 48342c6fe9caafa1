# Everything here makes its own environment in .venv; nothing but Python >= 3.11 and git is needed.
PYTHON ?= python3
VENV ?= .venv
INSTALLED = $(VENV)/.installed

.PHONY: demo test test-slurm results results-check lint types clean

demo: $(INSTALLED)
	$(VENV)/bin/python -m suites.run digits --methods itmc,baselines

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --ignore tests/slurm_cluster

# One after the other: they break what they run on.
test-slurm: $(INSTALLED)
	$(VENV)/bin/python -m pytest tests/slurm_cluster

# Tables and plots of results/ from its leaderboards; fails where a committed table is another.
results: $(INSTALLED)
	$(VENV)/bin/python -m results.remake

# A part of the committed digits grid is trained again and compared, averages over six tasks only.
# On one kind of processor accuracies come out the same to the last digit. Where sums are rounded
# otherwise they do not: these runs with AVX2 in the place of AVX-512, with SSE4.1, and with
# --no-channels-last moved by -6.4 to +11.8 points each (root mean square 3.8, n = 54), and the
# averages of a method by -2.5 to +2.7 (1.8, n = 9). 6 points are 3.4 times that, one false alarm in
# a thousand checks on another processor. KD without its gradient costs ITMC 12.1.
SLICE = --methods itmc,kd,dan_student --tasks all --seeds 0 --compression 0.75
TOLERANCE = 6
results-check: $(INSTALLED)
	rm -rf build/slice
	$(VENV)/bin/python -m suites.run digits $(SLICE) --out build/slice
	$(VENV)/bin/python -m results.diff results/leaderboards/digits.csv build/slice \
		--part --averages --tolerance $(TOLERANCE) --all

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
