# vEHR: `make run` serves, `make test` is what CI runs, `make check` is the fast part.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PYTHONHASHSEED ?= 0
# Compiled modules are kept: a process that starts without them spends its first second compiling.
export PYTHONDONTWRITEBYTECODE :=
# Suites that run on MongoDB too, beside those that always do (store, conformance, faults).
ON_MONGODB := tests/search tests/access tests/operations/record tests/operations/test_meta.py \
  tests/operations/test_reindex.py tests/operations/deid/test_anonymize_http.py \
  tests/http/test_async.py tests/http/test_protocol.py tests/smart/test_f_scopes.py \
  tests/consent/test_twins.py tests/audit/test_crossing.py tests/audit/test_consenting.py \
  tests/jobs/test_queue.py tests/operations/test_review.py tests/operations/test_automatic.py

.PHONY: run check test prove bench format lock definitions models ig golden clean

run: $(VENV)/core
	@$(BIN)/vehr demo
	@exec $(BIN)/vehr serve

# Core dependencies only, by hash.
$(VENV)/core: requirements/core.txt pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/core.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/dev: requirements/dev.txt $(VENV)/core
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@touch $@

# Where there is room in memory, the files of the fast tests lie there: no commit waits for a disk.
MEMORY := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 2000000 { print "/dev/shm" }')

# A look while one works, in a minute or so: what needs no server and no disk. The rest is in test.
QUICK := tests/structure tests/model tests/formats tests/definitions tests/fhirpath \
  tests/validation tests/search tests/interactions
check: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(if $(MEMORY),TMPDIR=$(MEMORY)) $(BIN)/python -m pytest -m "not slow and not prove" -k "not mongo" -n 2 --dist loadfile $(QUICK)

# What fails beside ten thousand others runs once more by itself: both results are printed, and
# what fails twice is red.
ALONE := --last-failed --last-failed-no-failures none
test: $(VENV)/dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m "not prove" -n 2 --dist loadfile \
	  || $(BIN)/python -m pytest -m "not prove" $(ALONE)
	VEHR_TEST_BACKENDS=mongo $(BIN)/python -m pytest -m "not prove and not slow" -k mongo \
	  -n 2 --dist loadfile $(ON_MONGODB) \
	  || VEHR_TEST_BACKENDS=mongo $(BIN)/python -m pytest $(ALONE)

prove: $(VENV)/dev
	$(BIN)/python -m pytest -m prove

bench: $(VENV)/dev
	$(BIN)/python -m bench

format: $(VENV)/dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Rewrites the lock files from requirements/*.in: hashes, no download addresses.
lock: $(VENV)/dev
	for set in core server dev; do $(BIN)/uv pip compile --quiet --generate-hashes --universal \
	  --python-version 3.11 --no-emit-index-url --no-header \
	  --output-file requirements/$$set.txt requirements/$$set.in; done

# Committed artefacts, rebuilt from their sources.
definitions: $(VENV)/dev
	$(BIN)/python scripts/compile_definitions.py
	$(BIN)/python scripts/compile_ucum.py

models: $(VENV)/dev
	$(BIN)/python scripts/build_models.py
	$(BIN)/python scripts/build_scores.py

# What the guide takes from the code, its examples, and its package.
ig: $(VENV)/dev
	$(BIN)/python scripts/build_ig.py --examples
	$(BIN)/vehr ig build ig

clean:
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache
