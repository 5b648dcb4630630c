"""Killed at any moment, nothing is half written; run again, the flow goes on and ends with the same bundles."""

from __future__ import annotations

import importlib.util
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from sweep_models import measured
from test_disks import RECIPE

from edgekit import examine, files, flow
from edgekit.bundle import open_bundle
from edgekit.checkpoint import open_checkpoint
from edgekit.profile import Profiled

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


# --- the deterministic one: a SIGKILL leaves the files as they are at that moment, so a copy taken there is what is left


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_benchmark", ROOT / "benchmarks" / "kill.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["kill_benchmark"] = module
    spec.loader.exec_module(module)
    return module


def states(out: Path, work: Callable[[], Any], store: Path) -> list[Path]:
    """Run it to its end; a copy of `out` as it was before each sync, rename and removal, and after the last; equal ones once."""
    seen: set[str] = set()
    kept: list[Path] = []

    def look() -> None:
        there = {str(p.relative_to(out)): p.read_bytes().hex() if p.is_file() else "" for p in sorted(out.rglob("*"))} if out.exists() else {}
        if (key := files.hash_of(there)) not in seen:
            seen.add(key)
            kept.append(store / str(len(kept)) / out.name)
            kept[-1].parent.mkdir(parents=True)
            if out.exists():
                shutil.copytree(out, kept[-1], symlinks=True)

    def before(real: Any) -> Any:
        def call(*args: Any, **more: Any) -> Any:
            look()
            return real(*args, **more)

        return call

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", before(os.fsync))
        for name in ("replace", "unlink"):
            patch.setattr(Path, name, before(getattr(Path, name)))
        patch.setattr(files, "_exchanged", before(files._exchanged))
        patch.setattr(shutil, "rmtree", before(shutil.rmtree))
        work()
        look()
    return kept


def check_each(bench: ModuleType, out: Path, work: Callable[[Path], Any], store: Path, least: int) -> None:
    found = states(out, lambda: work(out), store)
    assert len(found) >= least
    want = bench.facts(out)
    for state in found:
        assert bench.not_whole(state) == []
        shutil.rmtree(out)
        if state.exists():
            shutil.move(state, out)
        work(out)
        assert bench.facts(out) == want, state
        assert [p for pattern in bench.LITTER for p in out.rglob(pattern)] == []
    print(f"\n{len(found)} different states")


def test_a_deploy_that_was_killed_at_any_write_ends_as_if_undisturbed(bench, small_run, tmp_path, monkeypatch):
    """Also over an older bundle, which is replaced. Measurements are made up: it is about what is written, in which order."""
    rows = {n: np.arange(3) for n in ("process", "start_ns", "wall_ns", "cpu_ns", "preempted")}
    monkeypatch.setattr(examine, "profile_bundle", lambda bundle, request, **_: Profiled(measured(0.1), rows))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))

    def work(out: Path) -> None:
        flow.deploy(small_run / "train" / "t1", out, ("nir",), score_limit=0, seconds=0.05, processes=1)

    def again(out: Path) -> None:
        if not out.exists():
            flow.export(small_run / "train" / "t4", "onnx", out / "bundles" / "nir-f32")
        work(out)

    check_each(bench, tmp_path / "run", again, tmp_path / "states", 20)


def test_a_training_that_was_killed_at_any_write_ends_with_the_same_bytes(bench, tmp_path):
    (tmp_path / "small.toml").write_text(RECIPE.replace("epochs = 1", "epochs = 2", 1))
    check_each(bench, tmp_path / "run", lambda out: flow.train(tmp_path / "small.toml", out), tmp_path / "states", 15)


@pytest.mark.slow
@pytest.mark.parametrize("kills", ["train=4", "deploy=3 sweep=3 train=3"])
def test_real_commands_that_are_killed_at_random_and_run_again_are_as_if_undisturbed(kills, tmp_path):
    """What benchmarks/kill.json holds of many more."""
    command = [sys.executable, str(ROOT / "benchmarks" / "kill.py"), "--out", str(tmp_path / "kill.json"), "--work", str(tmp_path / "w"), "--kills"]
    done = subprocess.run([*command, *kills.split()], capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = json.loads((tmp_path / "kill.json").read_text())["rows"]
    assert {r["task"]: r["reruns_equal"] for r in rows} == {n: int(k) for n, _, k in (w.partition("=") for w in kills.split())}


def test_a_report_shows_no_bundle_that_was_being_made(small_run, tmp_path):
    """Killed between the last file of a draft and its name, the draft looks like a bundle."""
    out = Path(shutil.copytree(small_run, tmp_path / "run"))
    made = flow.export(out / "train" / "t1", "nir", out / "bundles" / "nir-f32")
    shutil.copytree(made.folder, out / "bundles" / ".draft-nir-f32-1-abcdefgh")
    assert [b.folder for b in flow.read_run(out).bundles] == ["bundles/nir-f32"]
