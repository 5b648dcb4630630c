"""One small trained run, made once a test session and shared by all processes of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from edgekit import flow

RECIPE = """
family = "iir_snn"
schedule = [4, 1]
seed = 1
[network]
name = "custom"
layers = [8, "A", 12, "A"]
hidden = [24]
dropout = 0.0
[ann]
epochs = 6
batch_size = 64
learning_rate = 0.005
schedule = "cosine"
[snn]
epochs = 4
batch_size = 64
learning_rate = 0.003
schedule = "cosine"
"""


def trained_run(shared: Path) -> Path:
    """`shared`/run with a trained network in it; whoever comes first makes it, the others wait for the lock."""
    import fcntl

    shared.mkdir(parents=True, exist_ok=True)
    with (shared / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        run = shared / "run"
        if not (run / "train" / "result.json").exists():
            recipe = shared / "small.toml"
            recipe.write_text(RECIPE)
            os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
            flow.train(recipe, run)
        return run


def copy_of(run: Path, folder: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(run, folder / run.name))
