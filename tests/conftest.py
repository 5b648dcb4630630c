"""Fixtures for all tests: independent tools that check edgekit's figures."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ORACLES = Path(__file__).parent.parent / ".oracles"


@pytest.fixture
def oracle(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Import a module of an independent tool; the test is skipped where the tools are not installed."""
    if not ORACLES.is_dir():
        pytest.skip("oracles are not installed: make oracles")
    monkeypatch.syspath_prepend(str(ORACLES))
    return importlib.import_module
