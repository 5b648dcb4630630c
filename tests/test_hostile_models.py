"""Files that attack, one after the other: each ends in one clear line, leaves nothing behind and stays within its limits."""

from __future__ import annotations

import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hostile_models import CASES, Case

from edgekit import cli, limits

ROOT = Path(__file__).parent.parent
ODD = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e]")


def children() -> set[str]:
    """Process numbers of what this process began and what has not ended."""
    return {n for task in Path("/proc/self/task").iterdir() for n in (task / "children").read_text().split()}


def peak_mb() -> float:
    """The most memory that this process or one that it began has held."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1000


def call(case: Case, arguments: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """(exit code, stdout, stderr) of the command line: in this process, or in one of its own."""
    if case.apart:
        environment = {**os.environ, "PYTHONPATH": str(ROOT), **case.environment}
        command = [sys.executable, "-m", "edgekit", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, env=environment)
        return done.returncode, done.stdout, done.stderr
    for name, value in case.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "argv", ["edgekit", *arguments])
    capfd.readouterr()
    code = cli.main()
    said = capfd.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_hostile_file_is_one_clear_line_and_nothing_more(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    case = CASES[name]
    folder = tmp_path / "given"
    folder.mkdir()
    path = case.make(folder) or folder / "m.onnx"
    monkeypatch.chdir(folder)
    before, there = children(), sorted(p for p in tmp_path.rglob("*"))
    begun, memory = time.monotonic(), peak_mb()
    code, out, said = call(case, [case.verb, str(path), "--out", str(tmp_path / "bundle"), *case.options], monkeypatch, capfd)
    with capfd.disabled():
        print(f"{name}: {time.monotonic() - begun:.2f} s: {said.strip().replace(str(folder), '')[:200]}")
    assert code == 2 and out == ""
    assert said.startswith("error: ") and said.endswith("\n") and len(said.splitlines()) == 1 and len(said) < 1500
    assert not ODD.search(said) and "Traceback" not in said
    assert re.search(case.says, said), said
    assert sorted(p for p in tmp_path.rglob("*")) == there, "something was left behind"
    assert children() == before, "a process was left"
    assert peak_mb() - memory < limits.memory_bytes(0) / 1e6


def test_the_table_is_whole_and_there_are_more():
    numbers = {int(name[:2]) for name in CASES}
    own = [n for n in numbers if n > 50]
    # 36 runs and is tested below; 47 to 50 are about devices and disks
    assert set(range(1, 47)) - numbers == {36} and len(own) + len(CASES) - len(numbers) >= 30
