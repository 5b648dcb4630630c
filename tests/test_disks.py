"""Disks that are full or read only: one sentence, exit code 2, nothing half written, what was there before is whole."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import disk_child
import numpy as np
import pytest

from edgekit import flow

ROOT = Path(__file__).parent.parent
RECIPE = """
family = "iir_snn"
schedule = [1]
[network]
name = "custom"
layers = [4, "A"]
hidden = [16]
[ann]
epochs = 1
batch_size = 256
learning_rate = 0.01
[snn]
epochs = 1
batch_size = 256
learning_rate = 0.005
"""
KINDS = [(name, kb) for name, (_, _, left) in disk_child.CASES.items() for kb in (*left, None) if (name, kb) != ("stdout", None)]


@pytest.fixture(scope="module")
def told(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int | None], dict[str, Any]]:
    """What each case said. The kernel refuses, in a mount namespace: root is not asked for, and no disk of this machine is filled."""
    folder = tmp_path_factory.mktemp("disks")
    ready, disk = folder / "ready", folder / "disk"
    (ready / "mirror").mkdir(parents=True)
    (ready / "tmp").mkdir()
    disk.mkdir()
    (ready / "small.toml").write_text(RECIPE)
    (ready / "plan.toml").write_text('[[models]]\ncheckpoint = "run/train/t1"\n[profile]\nseconds = 0.05\nprocesses = 1\n')
    (ready / "mirror" / "mnist.bin").write_bytes(np.random.default_rng(0).bytes(500_000))
    shutil.copytree(small_run, ready / "run")
    bundle = flow.deploy(ready / "run" / "train" / "t1", ready / "run", ("onnx",), score_limit=0, seconds=0.05, processes=1)[0]
    flow.write_report(ready / "run")
    shutil.copytree(bundle.folder, ready / "b")
    np.savez(ready / "x.npz", **bundle.golden().inputs)
    alone = ["unshare", "--map-root-user", "--mount"]
    tried = subprocess.run([*alone, "mount", "-t", "tmpfs", "none", str(disk)], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no disk of one's own may be mounted here, not even in a namespace: {tried.stderr.strip()}")
    command = [*alone, sys.executable, str(ROOT / "tests" / "disk_child.py"), str(ready), str(disk)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False, timeout=600)
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"case"')]
    assert done.returncode == 0 and rows, done.stderr[-2000:]
    return {(r["case"], r["kb"]): r for r in rows}


@pytest.mark.parametrize(("name", "kb"), KINDS)
def test_a_disk_that_refuses_is_one_sentence_and_leaves_what_was_there(told, name, kb):
    row = told[name, kb]
    lines = [line for line in row["said"].strip().splitlines() if not line.endswith(tuple(f"/{n}" for n in range(1, 30)))]  # without progress
    assert row["code"] == 2, row
    assert "Traceback" not in row["said"] and lines and lines[-1].startswith("error: "), row["said"]
    said_by = {"sweep": "database or disk is full|disk I/O error", "openvino": "iostream error"}.get(name, "No space left on device")
    assert re.search(said_by if kb is not None else "Read-only file system", lines[-1]), row["said"]
    print(f"\n{name:<10} {'read only' if kb is None else f'{kb} KB left':<12} {lines[-1]}")
    assert {n: sha for n, sha in row["new"].items() if n in row["old"]} == row["old"]
    assert row["broken"] == []
    more = set(row["new"]) - set(row["old"])
    assert not [n for n in more if ".draft-" in n or ".lock-" in n]
    if name in ("export", "openvino", "calibrate", "verify", "run", "embed", "stdout", "temporary"):
        # the output of `stdout`; trials of a search, which goes on from them; a file of onnxruntime's own
        assert not more - {"out", "b.search.json", ".ses"}
