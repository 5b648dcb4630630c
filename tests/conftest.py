"""Fixtures for all tests: independent tools that check edgekit's figures."""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ORACLES = Path(__file__).parent.parent / ".oracles"


@pytest.fixture(autouse=True)
def trust_ends_with_its_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command line with --trust, run in the tests' own process, would turn the limits off for every test after it."""
    monkeypatch.setenv("EDGEKIT_TRUST", "")


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of an independent tool; the test is skipped where the tools are not installed."""
    if not ORACLES.is_dir():
        pytest.skip("oracles are not installed: make oracles")
    monkeypatch.syspath_prepend(str(ORACLES))
    return importlib.import_module


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with a small digits network, trained once a session; read only."""
    spec = importlib.util.spec_from_file_location("run_fixture", Path(__file__).parent / "run_fixture.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # Under xdist each process has a folder of its own inside the session's.
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "small_run"
    return Path(module.trained_run(shared))
