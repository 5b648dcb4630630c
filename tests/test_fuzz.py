"""A short run of every target of fuzz_python.py: what strangers wrote is read or refused, and nothing else happens."""

from __future__ import annotations

import json
import struct
import zipfile
from pathlib import Path

import fuzz_python
import pytest

from edgekit import untrusted_archive
from edgekit.bundle import Golden
from edgekit.errors import EdgekitError

RESULTS = Path(__file__).parent.parent / "benchmarks" / "fuzz_python.json"

EXECUTIONS = {"intake": 12}  # each begins a process


@pytest.mark.parametrize("name", list(fuzz_python.TARGETS))
def test_mutated_files_are_read_or_refused(name: str):
    executions = EXECUTIONS.get(name, 200)
    found = fuzz_python.fuzz(name, executions)
    assert not found.crashes, "\n".join(trace for _, _, trace in found.crashes.values())
    assert found.executions == executions and 0 < found.taken < executions and found.sentences
    assert name != "intake" or found.counts["processes"] >= 3


def test_the_committed_numbers_are_of_every_target_and_without_a_finding():
    rows = {r["target"]: r for r in json.loads(RESULTS.read_text())["rows"]}
    assert set(rows) == set(fuzz_python.TARGETS)
    for name, row in rows.items():
        assert not row["findings"] and (row["executions"] >= 100_000 or row["why_fewer"]), name
    assert rows["intake"]["counts"]["processes"] >= 1000


def test_the_fuzzer_finds_what_it_looks_for(monkeypatch: pytest.MonkeyPatch):
    def fragile(raw: bytes) -> None:
        if len(raw) != 4:
            raise KeyError(raw)

    monkeypatch.setitem(fuzz_python.TARGETS, "fragile", lambda _: fuzz_python.Target(fragile, (b"abcd",)))
    assert list(fuzz_python.fuzz("fragile", 50).kinds) and all(k.startswith("KeyError") for k in fuzz_python.fuzz("fragile", 50).kinds)


def test_numbers_that_numpy_has_not_are_one_sentence(tmp_path: Path):
    """Found by fuzzing: float8 in a safetensors file was an AttributeError of numpy."""
    header = json.dumps({"inputs/x": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    (tmp_path / "g.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(2))
    with pytest.raises(EdgekitError, match="not a safetensors file"):
        Golden.load(tmp_path / "g.safetensors")


@pytest.mark.parametrize("header", [b"{'descr': '<f4', \0", b'{"""', b"{'descr': '<f4', 'fortran_order': False, 'shape': (2L,), }"])
def test_headers_that_are_half_python_are_one_sentence(tmp_path: Path, header: bytes):
    """Found by fuzzing: numpy's own reader raised TokenError, or warned of Python 2."""
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as packed:
        packed.writestr("x.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8))
    with pytest.raises(EdgekitError, match=r"is no \.npz of arrays"):
        untrusted_archive.read_npz(tmp_path / "x.npz")
