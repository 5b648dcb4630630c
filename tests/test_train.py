"""The training loop: learns, stops early, keeps the best, resumes to the bit, and is the same over two processes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from edgekit.checkpoint import open_checkpoint, save_checkpoint
from edgekit.errors import Broken, EdgekitError
from edgekit.measurement import silent
from edgekit.plan import Plan
from edgekit.train import fit, launch

ROOT = Path(__file__).parent.parent


class Blobs:
    """Three Gaussian blobs in the plane; 240 points to train on, 60 to validate."""

    def __init__(self, scale: float = 1.0) -> None:
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(300) % 3
        centres = torch.tensor([[0.0, 2.0], [2.0, -1.0], [-2.0, -1.0]])
        self.points = (centres[self.labels] + torch.randn(300, 2, generator=generator)) * scale

    def batches(self, split: Literal["train", "validation"], epoch: int, seed: int, batch_size: int) -> Iterator[tuple[torch.Tensor, ...]]:
        rows = torch.arange(240, 300)
        if split == "train":
            rows = torch.randperm(240, generator=torch.Generator().manual_seed(1000 * seed + epoch))
        for at in range(0, len(rows) // batch_size * batch_size, batch_size):
            yield self.points[rows[at : at + batch_size]], self.labels[rows[at : at + batch_size]]

    def loss(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return nn.functional.cross_entropy(module(batch[0]), batch[1])

    def score(self, module: Any, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return (module(batch[0]).argmax(1) == batch[1]).sum()


def net(dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(2, 16), nn.ReLU(), nn.Dropout(dropout), nn.Linear(16, 3))


def run(folder: Path, plan: Plan, module: nn.Module | None = None, task: Any = None, seed: int = 0) -> tuple[Any, nn.Module]:
    module = module or net()
    found = fit(launch(), module, task or Blobs(), plan, seed=seed, state_folder=folder, progress=silent, what="test")
    return found, module


PLAN = Plan(epochs=6, batch_size=30, learning_rate=0.02)


def test_the_loss_falls_and_the_score_rises(tmp_path: Path) -> None:
    found, _ = run(tmp_path / "s", PLAN)
    assert found.history[-1]["loss"] < 0.7 * found.history[0]["loss"]
    assert found.score == max(row["score"] for row in found.history)
    assert found.score > 0.8
    assert found.epochs_run == 6


def test_the_weights_of_the_best_epoch_are_kept(tmp_path: Path) -> None:
    found, module = run(tmp_path / "s", Plan(epochs=8, batch_size=30, learning_rate=0.3, schedule="constant"))
    task = Blobs()
    right = sum(int(task.score(module, b)) for b in task.batches("validation", 1, 0, 30))
    assert right / 60 == pytest.approx(found.score)


def test_without_progress_it_stops_early(tmp_path: Path) -> None:
    found, _ = run(tmp_path / "s", Plan(epochs=50, batch_size=30, learning_rate=1e-9, patience=3, schedule="constant"))
    assert found.epochs_run < 50


def test_a_finished_fit_is_only_read_back(tmp_path: Path) -> None:
    first, one = run(tmp_path / "s", PLAN)
    started = time.monotonic()
    second, two = run(tmp_path / "s", PLAN)
    assert second.history == first.history
    assert all(torch.equal(a, b) for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True))
    assert time.monotonic() - started < 30


def test_another_plan_or_seed_starts_again(tmp_path: Path) -> None:
    first, _ = run(tmp_path / "s", PLAN)
    other, _ = run(tmp_path / "s", PLAN, seed=1)
    assert other.history[0]["loss"] != first.history[0]["loss"]


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_each_optimizer_and_clipping_learn(optimizer: Any, tmp_path: Path) -> None:
    found, _ = run(tmp_path / "s", Plan(epochs=6, batch_size=30, learning_rate=0.02, optimizer=optimizer, clip_norm=1.0, weight_decay=1e-4))
    assert found.history[-1]["loss"] < found.history[0]["loss"]


def test_a_loss_that_is_no_number_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match="learning_rate.*clip_norm"):
        run(tmp_path / "s", Plan(epochs=3, batch_size=30, learning_rate=1e30, schedule="constant", optimizer="sgd"), task=Blobs(1e20))


@pytest.mark.parametrize(
    ("values", "message"),
    [({"epochs": 0}, "epochs"), ({"batch_size": 0}, "batch_size"), ({"learning_rate": 0.0}, "learning_rate"), ({"milestones": (1.5,)}, "milestones"),
     ({"patience": -1}, "patience"), ({"learning_rate": float("nan")}, "learning_rate")],
)  # fmt: skip
def test_impossible_plans_are_refused(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Plan(**{"epochs": 1, "batch_size": 1, "learning_rate": 0.1, **values})


def test_the_learning_rate_is_divided_by_five_at_the_milestones() -> None:
    plan = Plan(epochs=10, batch_size=1, learning_rate=1.0)
    assert [round(plan.rate(e), 6) for e in range(1, 11)] == [1.0] * 6 + [0.2] * 2 + [0.04, 0.008]


CHILD = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}, {root!r}]
import torch
import test_train as t
from edgekit.plan import Plan
from edgekit.train import fit, launch
from safetensors.torch import save_file
devices, slow, out = int(sys.argv[1]), float(sys.argv[2]), Path(sys.argv[3])
nodes = int(sys.argv[4]) if len(sys.argv) > 4 else 1
module = t.net({dropout})
fabric = launch(devices, nodes)
def progress(what, done, total):
    print(done, flush=True)
    time.sleep(slow)
fit(fabric, module, t.Blobs(), t.PLAN, seed=0, state_folder=out / "state", progress=progress, what="x")
if fabric.is_global_zero:
    save_file(module.state_dict(), out / "end.safetensors")
"""


def script(folder: Path, dropout: float) -> Path:
    path = folder / "child.py"
    path.write_text(CHILD.format(tests=str(ROOT / "tests"), root=str(ROOT), dropout=dropout))
    return path


def start(folder: Path, dropout: float, *arguments: object, **environment: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(script(folder, dropout)), *map(str, arguments)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True)


def finish(child: subprocess.Popen[str]) -> None:
    _, errors = child.communicate(timeout=240)
    assert child.returncode == 0, errors[-2000:]


def test_killed_between_epochs_and_run_again_it_ends_with_the_same_bits(tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm", tmp_path / "killed"
    calm.mkdir()
    killed.mkdir()
    finish(start(calm, 0.3, 1, 0, calm))
    child = start(killed, 0.3, 1, 0.3, killed)
    assert child.stdout is not None
    with child:
        while int(child.stdout.readline()) < 3:
            pass
        os.killpg(child.pid, signal.SIGKILL)
    assert not (killed / "end.safetensors").exists()
    finish(start(killed, 0.3, 1, 0, killed))
    a, b = load_file(calm / "end.safetensors"), load_file(killed / "end.safetensors")
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_two_processes_give_the_weights_of_one_with_the_same_global_batch(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    finish(start(one, 0.0, 1, 0, one))
    finish(start(two, 0.0, 2, 0, two))
    a, b = load_file(one / "end.safetensors"), load_file(two / "end.safetensors")
    assert all(torch.allclose(a[k], b[k], rtol=1e-5, atol=1e-6) for k in a)
    assert not torch.allclose(a["0.weight"], net().state_dict()["0.weight"], atol=1e-3)  # it did learn


def test_two_nodes_on_this_machine_give_the_same_weights_too(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    finish(start(one, 0.0, 1, 0, one))
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    children = [start(two, 0.0, 1, 0, two, 2, NODE_RANK=str(rank), **meeting) for rank in range(2)]
    for child in children:
        finish(child)
    a, b = load_file(one / "end.safetensors"), load_file(two / "end.safetensors")
    assert all(torch.allclose(a[k], b[k], rtol=1e-5, atol=1e-6) for k in a)


def test_a_checkpoint_is_read_back_and_a_changed_one_is_refused(tmp_path: Path) -> None:
    module = net()
    saved = save_checkpoint(tmp_path / "c", module, {"family": "x", "steps": 1})
    opened = open_checkpoint(tmp_path / "c")
    assert opened.sha256 == saved.sha256 and opened.facts["steps"] == 1
    assert all(torch.equal(v, opened.state()[k]) for k, v in module.state_dict().items())
    path = tmp_path / "c" / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Broken):
        open_checkpoint(tmp_path / "c")
    with pytest.raises(EdgekitError, match="no checkpoint in"):
        open_checkpoint(tmp_path / "none")
