# The commands of every day: `make demo` shows what the project does, `make test` checks all of it.
# PYTHON is the interpreter that the virtual environment is made with, 3.11 or newer.

PYTHON ?= python3

.PHONY: demo test lint results benchmark compare speed bench-step bench-detail bench-start scaling torture .venv reproduce comparison spaces

demo: .venv/installed
	.venv/bin/python code/reconstruction/run.py --conf setup.conf --input data/bunny.xyz

# the types are checked beside the tests, as a minute of one processor is
test: .venv/installed
	.venv/bin/ruff check code data tests
	.venv/bin/python tests/check_types.py & types=$$!; .venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder && wait $$types

# DATA is a folder of scans and meshes; see code/reconstruction/benchmark.py for what else can be asked
benchmark: .venv/installed
	.venv/bin/python code/reconstruction/benchmark.py $(DATA)

# docs/RESULTS.md and docs/gallery.png from this commit, in hours; DATA is a folder of further scans, and for a look in
# minutes, which goes to results/: make results ARGUMENTS=--quick. Stopped, it goes on where it was
results: .venv/installed
	.venv/bin/python code/benchmarks/results.py $(if $(DATA),--data $(DATA)) $(ARGUMENTS)

# docs/SPEED.md from this commit: the error against time, and cost against the number of points, in about an hour
speed: .venv/installed
	.venv/bin/python code/benchmarks/speed.py $(ARGUMENTS)

# docs/SPACES.md: shape spaces by PHASE and by IGR's loss on unseen bodies, in an hour. Stopped, it goes on where it was
spaces: .venv/installed
	.venv/bin/python code/shapespace/measure.py $(ARGUMENTS)

# docs/REPRODUCTION.md: the published method and its table, on the scans of the folder DATA; in hours on a GPU. For a
# look on a CPU, which goes to reproduction/: make reproduce DATA=scans ARGUMENTS=--quick. Stopped, it goes on where it was
reproduce: .venv/installed
	.venv/bin/python code/benchmarks/reproduce.py $(DATA) $(ARGUMENTS)

# INPUT is a cloud; see code/reconstruction/compare.py for what else can be asked
compare: .venv/installed
	.venv/bin/python code/reconstruction/compare.py --input $(INPUT)

# docs/COMPARISON.md: all losses on four clouds and two curves at two lengths, in two hours. Stopped, it goes on where it was
comparison: .venv/installed
	.venv/bin/python code/benchmarks/comparison.py $(ARGUMENTS)

bench-step: .venv/installed
	.venv/bin/python code/reconstruction/bench_step.py

bench-detail: .venv/installed
	.venv/bin/python code/reconstruction/bench_detail.py

# seconds of each part of a whole command; INPUT is a cloud, data/bunny.xyz if none is given
bench-start: .venv/installed
	.venv/bin/python code/reconstruction/bench_start.py $(if $(INPUT),--input $(INPUT)) $(ARGUMENTS)

# kills tiny runs at random moments, see tests/torture.py; e.g. make torture ARGUMENTS="--kills 10 --seed 3"
torture: .venv/installed
	.venv/bin/python tests/torture.py $(ARGUMENTS)

# clouds per hour with 1 and 2 jobs; the machine should be idle
scaling: .venv/installed
	.venv/bin/python code/reconstruction/bench_jobs.py

lint: .venv/installed
	.venv/bin/ruff check code data tests
	.venv/bin/python tests/check_types.py

.venv: .venv/installed

# Compiled by all processors, which pip does not; some packages have files for other Pythons, which do not compile. The
# stamp is touched last, so that an installation cut short is done again.
.venv/installed: requirements.txt
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --no-compile --requirement requirements.txt
	.venv/bin/python -m compileall -qq -j 0 .venv code || true
	touch $@
