"""Killed at any moment, nothing is half written; run again, the flow goes on and ends with the same bundles."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgekit.bundle import open_bundle
from edgekit.checkpoint import open_checkpoint

ROOT = Path(__file__).parent.parent
SMALL = """
family = "iir_snn"
schedule = [2, 1]
[network]
name = "custom"
layers = [4, "A"]
hidden = [16]
[ann]
epochs = 3
batch_size = 64
learning_rate = 0.01
[snn]
epochs = 2
batch_size = 64
learning_rate = 0.005
[deploy]
formats = ["onnx", "openvino", "nir:int8"]
"""


def deploy(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "edgekit", "deploy", "small.toml", "--out", "run", "--seconds", "0.05", "--score-limit", "0", "--json"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with (folder / "out.json").open("wb") as out:  # a pipe that nobody reads would fill and hold it up
        return subprocess.Popen(command, cwd=folder, env=env, stdout=out, stderr=subprocess.DEVNULL, start_new_session=True)


def everything_there_is_whole(run: Path) -> int:
    whole = 0
    for manifest in run.glob("bundles/*/bundle.json"):
        open_bundle(manifest.parent)
        whole += 1
    for facts in run.glob("train/*/checkpoint.json"):
        open_checkpoint(facts.parent)
        whole += 1
    for folder in [*run.glob("bundles/*"), *run.glob("train/*")]:
        draft = folder.name.startswith(".draft-")
        assert draft or folder.is_file() or folder.suffix == ".state" or (folder / "bundle.json").exists() or (folder / "checkpoint.json").exists()
    return whole


@pytest.mark.slow
def test_killed_ten_times_at_random_the_flow_ends_as_if_undisturbed(tmp_path: Path) -> None:
    undisturbed = tmp_path / "calm"
    disturbed = tmp_path / "killed"
    for folder in (undisturbed, disturbed):
        folder.mkdir()
        (folder / "small.toml").write_text(SMALL)
    started = time.monotonic()
    with deploy(undisturbed) as child:
        assert child.wait(timeout=300) == 0
    whole_s = time.monotonic() - started
    rng = random.Random(0)
    kills = 0
    for _ in range(10):
        with deploy(disturbed) as child:
            try:
                child.wait(timeout=rng.uniform(0.1, 0.9) * whole_s)
            except subprocess.TimeoutExpired:
                os.killpg(child.pid, signal.SIGKILL)
                kills += 1
        everything_there_is_whole(disturbed / "run")
    assert kills >= 1
    with deploy(disturbed) as child:
        assert child.wait(timeout=300) == 0
    assert json.loads((disturbed / "out.json").read_text())["bundles"]
    left = [p for p in disturbed.rglob(".draft-*") if p.is_dir()]
    assert left == []
    for bundle in sorted((undisturbed / "run" / "bundles").iterdir()):
        twin = open_bundle(disturbed / "run" / "bundles" / bundle.name)
        assert twin.sha256 == open_bundle(bundle).sha256  # weights, graphs and golden answers, to the bit
