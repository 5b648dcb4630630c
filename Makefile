# Everything that a fresh machine needs is set up by the target that needs it, once.
#   make demo    train, export, calibrate, verify and profile a small spiking network; the answers are on the screen
#   make test    the tests that take seconds each        make test-all   all of them, those that compile projects among them
#   make lint    ruff and mypy                           make setup      the environment alone
#   make rtx     TensorRT-RTX beside it, proprietary, for the tests that build with it
# PYTHON=/path/to/python picks the interpreter (3.11 or newer; 3.11 is what the pins were tested with).
# TORCH_ARGS=... is handed to pip when it installs torch, as in an index that holds CPU builds.

PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v $$p && break; done)
TORCH_ARGS ?=
JOBS ?= 2
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt
# A file of tests runs in one process (loadscope), so that what it trains and exports is made once and nobody waits for it.
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadscope $(PYTEST_ARGS)

.PHONY: demo test test-all lint setup oracles rtx clean
.DELETE_ON_ERROR:

demo: .venv/.done-lava
	$(BIN)/edgekit demo

test: .venv/.done-lava .venv/.done-cpp .oracles/.done
	$(PYTEST) -m 'not slow and not builds'

test-all: .venv/.done-lava .venv/.done-cpp .oracles/.done
	$(PYTEST)

lint: .venv/.done-edgekit
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: .venv/.done-lava .venv/.done-cpp

oracles: .oracles/.done

rtx: .venv/.done-rtx

clean:
	rm -rf build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

.venv/.done-python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 or newer on PATH; install one, or say make PYTHON=/path/to/python"; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	touch $@

# torch first and alone: the largest download, and the one whose build is worth choosing.
.venv/.done-torch: .venv/.done-python constraints.txt
	$(PIP) $(TORCH_ARGS) torch==2.13.0
	touch $@

.venv/.done-edgekit: .venv/.done-torch pyproject.toml constraints.txt
	$(PIP) -e '.[all,dev]'
	touch $@

# Lava 0.10 needs libraries of its own age: edgekit builds it an environment of its own.
.venv/.done-lava: .venv/.done-edgekit $(wildcard edgekit/runtimes/lava.py edgekit/runtimes/_lava/*)
	$(BIN)/edgekit setup lava
	touch $@

# The C++ runner, built for this machine, with OpenVINO, and for aarch64 under emulation (qemu, and a cross compiler or zig).
.venv/.done-cpp: .venv/.done-edgekit $(wildcard runtime/CMakeLists.txt runtime/cmake/* runtime/include/edgekit/* runtime/src/* runtime/src/spike/* runtime/tools/*)
	$(BIN)/edgekit setup cpp
	$(BIN)/edgekit setup cpp_openvino
	$(BIN)/edgekit setup cpp_aarch64_a53
	touch $@

# NVIDIA's TensorRT-RTX, proprietary, under NVIDIA's licence: installed only when asked for. Its tests run where it is.
.venv/.done-rtx: .venv/.done-edgekit
	$(PIP) -e '.[tensorrt-rtx]'
	touch $@

# Tools that tests compare edgekit with. Beside the environment, not in it: their requirements contradict its pins.
.oracles/.done: .venv/.done-edgekit
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --upgrade --target .oracles \
		norse==1.1.0 spikingjelly==2.0.0 neurobench==2.3.0
	touch $@
