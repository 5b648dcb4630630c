"""A short run of every target of fuzz_python.py: what strangers wrote is read or refused, and nothing else happens."""

from __future__ import annotations

import fuzz_python
import pytest


@pytest.mark.parametrize("name", list(fuzz_python.TARGETS))
def test_mutated_files_are_read_or_refused(name: str):
    found = fuzz_python.fuzz(name, 300)
    assert not found.crashes, "\n".join(trace for _, _, trace in found.crashes.values())
    assert found.executions == 300


def test_the_fuzzer_finds_what_it_looks_for(monkeypatch: pytest.MonkeyPatch):
    def fragile(raw: bytes) -> None:
        if len(raw) != 4:
            raise KeyError(raw)

    monkeypatch.setitem(fuzz_python.TARGETS, "fragile", lambda _: fuzz_python.Target(fragile, (b"abcd",)))
    assert list(fuzz_python.fuzz("fragile", 50).kinds) and all(k.startswith("KeyError") for k in fuzz_python.fuzz("fragile", 50).kinds)
