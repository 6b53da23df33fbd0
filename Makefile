# make demo and make test do all their own set-up; everything lives in .venv
PYTHON ?= python3
VENV ?= .venv
export SAM2_BUILD_CUDA = 0

.PHONY: install demo test quick lint clean
.DELETE_ON_ERROR:

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml deploy/clients/python/pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --upgrade pip
	$(VENV)/bin/pip install --quiet --editable '.[train,test,dev]' --editable deploy/clients/python
	# not as a dependency: it asks for opencv-python, whose cv2 would overwrite the headless one
	$(VENV)/bin/pip install --quiet --no-deps 'trackeval>=1.3'
	touch $@

demo: install
	$(VENV)/bin/maskcast demo --out demo

lint: install
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

# three processes on two cores: a third of their time tests wait for programs, cameras and clocks
test: lint
	$(VENV)/bin/pytest -n 3 --dist loadfile

# the checks and the tests of at most a second or two in one process: minutes; test has all
quick: lint
	$(VENV)/bin/pytest -n 2 --dist loadfile -m "not process and not slow"

clean:
	rm -rf $(VENV) build dist demo .mypy_cache .ruff_cache .pytest_cache
