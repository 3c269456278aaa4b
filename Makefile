# Two commands: `make demo` (real recommendations on real data) and `make test` (everything CI runs).
# Both create .venv and install what they need; run again, they do only what is left to do.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

# `make bench` measures all paths on the demo's shop and on a synthetic one of 1,000,000 items within an hour, and goes on
# where it was interrupted; BENCH='--workload W0 --path engine' measures less. `make bench-tables` adds the table of model
# variants and the profile by stage. `make bench-quality DATA=FOLDER` measures quality on public files. `make bench-fresh` measures what changes while the server runs, in about an hour.
.PHONY: demo serve bench bench-fresh bench-quality bench-tables test lint types imports generated unit coverage clean

demo: $(VENV)/installed
	$(BIN)/python -m client.demo

serve: $(VENV)/installed
	$(BIN)/python -m server --config server/demo.toml

bench: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.serving $(BENCH)

bench-fresh: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.freshness.everything $(BENCH)

bench-quality: $(VENV)/installed
	$(BIN)/python -m tests.benchmarks.quality $(DATA)

bench-tables: $(VENV)/installed-bench
	$(BIN)/python -m tests.benchmarks.variants
	$(BIN)/python -m tests.benchmarks.profile

test: $(VENV)/installed lint types imports generated unit

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/installed
	$(BIN)/mypy -p server -p towers -p index -p twinrank_client -p client.load -p client.replaying -p client.examples
	$(BIN)/mypy -m client.load_test -m client.demo -m client.demo_scenes -m client.evaluate -m client.replay -m client.served_lists \
		-m client.server_process -m protos.generate

imports: $(VENV)/installed
	$(BIN)/lint-imports

generated: $(VENV)/installed
	$(BIN)/python protos/generate.py --check

# Two processes, each a file at a time: many tests wait for servers that they started.
unit: $(VENV)/installed
	$(BIN)/pytest --numprocesses 2 --dist loadfile

# Which lines no test runs; not in `make test`, since counting them costs a fifth of its time.
coverage: $(VENV)/installed
	$(BIN)/pytest --numprocesses 2 --dist loadfile --cov --cov-report=term:skip-covered

$(VENV)/installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[server,train,demo,dev]'
	touch $@

$(VENV)/installed-bench: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) var dist
