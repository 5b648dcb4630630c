"""A short run of every target of fuzz_python.py: what strangers wrote is read or refused, and nothing else happens."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
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


def test_the_happy_path_pays_at_most_15_percent():
    """Of the digits, without the profiling that would hide it: figures of benchmarks/hostile_overhead.py."""
    rows = {r["name"]: r for r in json.loads((RESULTS.parent / "hostile_overhead.json").read_text())["rows"]}
    judged = rows["digits, onnx, lean"]
    assert judged["pairs"] >= 7 and judged["on"]["cpu_s_over_off"]["median"] <= 1.15


def test_the_benchmark_switches_every_check_off_that_it_names(tmp_path: Path):
    """In a process of its own, as there: a check that was renamed is told, and a file whose hash is wrong is opened."""
    switch = RESULTS.parent / "hostile_off"
    code = (f"import sys; sys.path.insert(0, {str(switch)!r}); import importlib, sitecustomize as s\n"
            "for name in (*s.CHECKS, *s.PROFILING): importlib.import_module(name)\n"
            "from pathlib import Path; from edgekit.checkpoint import open_checkpoint; print(open_checkpoint(Path(sys.argv[1])).facts)")  # fmt: skip
    (tmp_path / "model.safetensors").write_bytes(bytes(9))
    (tmp_path / "checkpoint.json").write_text(json.dumps({"format_version": 1, "weights_sha256": "0" * 64, "facts": {"a": 1}}))
    for checks, profiling, says in (("off", "off", "{'a': 1}"), ("on", "on", "was changed after")):
        environment = {**os.environ, "PYTHONPATH": f"{switch}{os.pathsep}{RESULTS.parent.parent}", "EDGEKIT_CHECKS": checks, "EDGEKIT_PROFILING": profiling}
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False, env=environment)
        assert says in done.stdout + done.stderr, done.stderr


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
