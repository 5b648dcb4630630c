"""The training loop: what it learns, keeps, resumes and refuses; on one process and on several."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from edgekit import files, recipe, training_state
from edgekit.errors import Broken, EdgekitError
from edgekit.measurement import silent
from edgekit.train import Fitted, Plan, fit, launch

ROOT = Path(__file__).parent.parent


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is said here of bits and of several processes is said of CPUs: also on a machine with a GPU, here and in child processes."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")


Batch = tuple[torch.Tensor, ...]


class Slide:
    """A task of one weight w with the loss w: plain SGD at rate 1 gives w = -epoch. Scores follow a list, of 8 samples."""

    def __init__(self, scores: Sequence[int]) -> None:
        self.scores = scores
        self.seen: list[tuple[str, bool, bool]] = []  # hook, training mode, gradients on
        self.epochs: list[int] = []

    def batches(self, split: str, epoch: int, seed: int, batch_size: int) -> Iterator[Batch]:
        if split == "validation":
            self.epochs.append(epoch)
        yield (torch.full((8,), float(epoch)),)

    def loss(self, module: Any, batch: Batch) -> torch.Tensor:
        self.seen.append(("loss", module.training, torch.is_grad_enabled()))
        return module(batch[0]).mean()

    def score(self, module: Any, batch: Batch) -> torch.Tensor:
        self.seen.append(("score", module.training, torch.is_grad_enabled()))
        return torch.tensor(self.scores[int(batch[0][0]) - 1])


class Weight(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.w = torch.nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.w + 0 * x


def slide_plan(**changes: Any) -> Plan:
    return Plan(**{"epochs": 6, "batch_size": 8, "learning_rate": 1.0, "optimizer": "sgd", "momentum": 0.0,
                   "schedule": "constant", **changes})  # fmt: skip


def run(folder: Path, task: Any, plan: Plan, module: torch.nn.Module | None = None, **more: Any) -> tuple[Fitted, Any]:
    module = module or Weight()
    given = {"seed": 0, "state_folder": folder / "state", "progress": silent, "what": "net", **more}
    return fit(launch(), module, task, plan, **given), module


class Halves:
    """96 points and the side of a line on which each lies; 33 more to validate. `reads` counts training batches."""

    reads = 0

    def batches(self, split: str, epoch: int, seed: int, batch_size: int) -> Iterator[Batch]:
        draw = torch.Generator().manual_seed(7)
        x = torch.randn(129, 4, generator=draw)
        x = x[:96] if split == "train" else x[96:]
        if split == "train":
            self.reads += 1
            x = x[torch.randperm(96, generator=torch.Generator().manual_seed(1000 * seed + epoch))]
        for at in range(0, len(x), batch_size):
            part = x[at : at + batch_size]
            yield part, (part[:, 0] + part[:, 1] > 0).long()

    def loss(self, module: Any, batch: Batch) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(module(batch[0]), batch[1])

    def score(self, module: Any, batch: Batch) -> torch.Tensor:
        return (module(batch[0]).argmax(1) == batch[1]).sum()


def net() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2))


HALVES = Plan(epochs=5, batch_size=16, learning_rate=0.02, optimizer="adamw", weight_decay=1e-3, clip_norm=0.5)


# What is learned and kept


def test_the_loss_falls_and_the_score_rises(tmp_path):
    fitted, _ = run(tmp_path, Halves(), HALVES, net())
    losses = [row["loss"] for row in fitted.history]
    assert losses[-1] < 0.7 * losses[0]
    assert fitted.score > 0.9
    assert fitted.epochs_run == 5
    assert fitted.seconds == pytest.approx(sum(row["seconds"] for row in fitted.history))
    assert all(set(row) == {"epoch", "loss", "score", "learning_rate", "seconds"} for row in fitted.history)


@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd"])
def test_the_loop_equals_a_plain_torch_loop_bit_for_bit(tmp_path, optimizer):
    plan = Plan(epochs=5, batch_size=16, learning_rate=0.02, optimizer=optimizer, weight_decay=1e-3, clip_norm=0.5)
    module, task = net(), Halves()
    kinds = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}
    momentum = {"momentum": 0.9} if optimizer == "sgd" else {}
    stepper = kinds[optimizer](module.parameters(), lr=0.02, weight_decay=1e-3, **momentum)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(stepper, [3, 4], gamma=0.2)  # 0.6 and 0.8 of 5; 0.9 comes too late
    after, scores = [], []
    for epoch in range(1, 6):
        for batch in task.batches("train", epoch, 0, 16):
            stepper.zero_grad()
            task.loss(module, batch).backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 0.5)
            stepper.step()
        scheduler.step()
        after.append({k: v.clone() for k, v in module.state_dict().items()})
        scores.append(sum(int(task.score(module, b)) for b in task.batches("validation", epoch, 0, 16)) / 33)
    fitted, ours = run(tmp_path, Halves(), plan, net())
    assert [row["score"] for row in fitted.history] == scores
    assert all(torch.equal(v, after[fitted.epoch - 1][k]) for k, v in ours.state_dict().items())


def test_the_best_weights_are_kept_and_of_equals_the_later(tmp_path):
    fitted, module = run(tmp_path, Slide([3, 7, 5, 7, 6, 2]), slide_plan())
    assert (fitted.epoch, fitted.score, fitted.epochs_run) == (4, 0.875, 6)
    assert module.w.item() == -4


def test_training_stops_when_patience_is_out(tmp_path):
    """The best score is first reached in epoch 2; equal scores are not better."""
    fitted, module = run(tmp_path, Slide([3, 7, 5, 7, 6, 8]), slide_plan(patience=3))
    assert (fitted.epoch, fitted.epochs_run) == (4, 5)
    assert module.w.item() == -4


def test_patience_off_trains_all_epochs(tmp_path):
    assert run(tmp_path, Slide([8, 1, 1, 1, 1, 1]), slide_plan())[0].epochs_run == 6


def test_training_and_validation_see_the_right_mode(tmp_path):
    task = Slide([1, 1])
    _, module = run(tmp_path, task, slide_plan(epochs=2))
    assert task.seen == [("loss", True, True), ("score", False, False)] * 2
    assert not module.training


def test_gradients_are_limited_to_clip_norm(tmp_path):
    _, module = run(tmp_path, Slide([1]), slide_plan(epochs=1, clip_norm=0.25))
    assert module.w.item() == pytest.approx(-0.25, rel=1e-4)


@pytest.mark.parametrize("schedule", ["steps", "cosine", "constant", "exponential"])
def test_learning_rates_are_those_of_torch_schedulers(schedule):
    plan = Plan(epochs=20, batch_size=1, learning_rate=0.3, schedule=schedule)
    stepper = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.3)
    theirs = {
        "steps": torch.optim.lr_scheduler.MultiStepLR(stepper, [12, 16, 18], gamma=0.2),
        "cosine": torch.optim.lr_scheduler.CosineAnnealingLR(stepper, 20),
        "constant": torch.optim.lr_scheduler.LambdaLR(stepper, lambda _: 1.0),
        "exponential": torch.optim.lr_scheduler.ExponentialLR(stepper, 0.2),
    }[schedule]
    stepper.step()
    for epoch in range(1, 21):
        assert plan.rate(epoch) == pytest.approx(theirs.get_last_lr()[0], rel=1e-9)
        theirs.step()


def test_the_learning_rates_of_the_plan_are_used(tmp_path):
    fitted, module = run(tmp_path, Slide([1, 2, 3, 4, 5]), slide_plan(epochs=5, schedule="steps"))
    rates = [row["learning_rate"] for row in fitted.history]
    assert rates == pytest.approx([1, 1, 1, 0.2, 0.04])
    assert module.w.item() == pytest.approx(-sum(rates))


def test_progress_counts_epochs_up_to_all_of_them(tmp_path):
    calls = []
    run(tmp_path, Slide([5, 1, 1, 1, 1, 1]), slide_plan(patience=2), progress=lambda *call: calls.append(call))
    assert calls == [("net", 0, 6), ("net", 1, 6), ("net", 2, 6), ("net", 6, 6)]


# What is refused


def test_a_loss_that_is_not_finite_names_epoch_and_learning_rate(tmp_path):
    class Explodes(Slide):
        def loss(self, module: Any, batch: Batch) -> torch.Tensor:
            return super().loss(module, batch) / (batch[0][0] != 2)

    with pytest.raises(EdgekitError, match=r"loss is -?inf in epoch 2, at learning_rate 1; lower learning_rate, or .* clip_norm"):
        run(tmp_path, Explodes([1, 1, 1]), slide_plan(epochs=3))


@pytest.mark.parametrize("split", ["train", "validation"])
def test_a_task_without_samples_is_refused(tmp_path, split):
    class Empty(Slide):
        def batches(self, asked: str, epoch: int, seed: int, batch_size: int) -> Iterator[Batch]:
            return iter(()) if asked == split else super().batches(asked, epoch, seed, batch_size)

    with pytest.raises(EdgekitError, match=r"there are no (training|validation) samples"):
        run(tmp_path, Empty([1]), slide_plan(epochs=1))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"epochs": 0}, "epochs must be at least 1, found 0"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, found nan"),
        ({"weight_decay": -1.0}, "weight_decay must be 0 or more"),
        ({"momentum": 1.0}, "momentum lies from 0 to below 1"),
        ({"decay": 0.0}, "decay lies above 0"),
        ({"clip_norm": -0.1}, "clip_norm must be 0"),
        ({"patience": -1}, "patience must be 0"),
        ({"average": 1.0}, "average lies from 0"),
        ({"milestones": (0.8, 0.6)}, "milestones are rising shares between 0 and 1"),
        ({"milestones": (0.5, 1.5)}, "milestones are rising shares"),
        ({"milestones": (0.5, float("nan"))}, "milestones are rising shares"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_and_a_recipe_names_its_place(changes, says):
    with pytest.raises(ValueError, match=says):
        slide_plan(**changes)
    with pytest.raises(EdgekitError, match=f"mine.toml: ann: {says}"):
        recipe.fill(Plan, {"epochs": 1, "batch_size": 1, "learning_rate": 0.1, **changes}, "mine.toml: ann")


@pytest.mark.parametrize(("devices", "nodes"), [(0, 1), (1, 0)])
def test_training_on_no_device_is_refused(devices, nodes):
    with pytest.raises(EdgekitError, match="at least 1 device and 1 node"):
        launch(devices, nodes)


def test_nodes_without_an_address_are_refused(monkeypatch):
    for name in ("LOCAL_RANK", "TORCHELASTIC_RUN_ID", "SLURM_JOB_ID", "MASTER_ADDR", "MASTER_PORT", "NODE_RANK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MASTER_PORT", "29500")
    with pytest.raises(EdgekitError, match=r"2 nodes were asked for, but MASTER_ADDR, NODE_RANK are not set"):
        launch(1, 2)


def test_a_trapezoid_rises_stays_and_falls_to_a_fiftieth():
    rates = [Plan(epochs=100, batch_size=1, learning_rate=1.0, schedule="trapezoid").rate(e) for e in range(1, 101)]
    assert rates[:4] == pytest.approx([0.125, 0.375, 0.625, 0.875]) and rates[4:40] == [1.0] * 36
    falls = [b - a for a, b in zip(rates[40:], rates[41:], strict=False)]
    assert falls == pytest.approx([-0.98 / 60] * 59) and rates[-1] == pytest.approx(0.02 + 0.98 / 120)


class Deep(torch.nn.Module):
    """A first layer, a hidden matrix, a last layer; it says which is which."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = torch.nn.Sequential(
            torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 6), torch.nn.Tanh(), torch.nn.Linear(6, 2)
        )

    def hidden_matrices(self) -> list[str]:
        return ["layers.2.weight"]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


MUON = Plan(epochs=4, batch_size=16, learning_rate=0.05, optimizer="muon", schedule="trapezoid", average=0.9)


def test_muon_and_the_average_equal_a_plain_torch_loop_bit_for_bit(tmp_path):
    """Muon on the hidden matrix, AdamW at a tenth on the rest; the averaged weights are validated and kept."""
    module, task = Deep(), Halves()
    hidden = module.layers[2].weight
    rest = [p for p in module.parameters() if p is not hidden]
    muon, adamw = torch.optim.Muon([hidden], 0.05, weight_decay=0.0), torch.optim.AdamW(rest, 0.005, betas=(0.9, 0.99), weight_decay=0.0)
    average = {k: v.clone() for k, v in module.state_dict().items()}
    after, scores, step = [], [], 0
    for epoch in range(1, 5):
        muon.param_groups[0]["lr"], adamw.param_groups[0]["lr"] = MUON.rate(epoch), MUON.rate(epoch) * 0.1
        for batch in task.batches("train", epoch, 0, 16):
            muon.zero_grad(), adamw.zero_grad()
            task.loss(module, batch).backward()
            muon.step(), adamw.step()
            share = 1 - min(0.9, (1 + step) / (10 + step))
            average = {k: torch.lerp(average[k], v, share) for k, v in module.state_dict().items()}
            step += 1
        after.append(average)
        other = Deep()
        other.load_state_dict(average)
        scores.append(sum(int(task.score(other, b)) for b in task.batches("validation", epoch, 0, 16)) / 33)
    fitted, ours = run(tmp_path, Halves(), MUON, Deep())
    assert [row["score"] for row in fitted.history] == scores
    assert all(torch.equal(v, after[fitted.epoch - 1][k]) for k, v in ours.state_dict().items())
    assert not torch.equal(ours.layers[2].weight, hidden), "the average must not be the weights themselves"


def test_a_broken_off_fit_with_muon_and_an_average_ends_with_the_same_weights(tmp_path, monkeypatch):
    _, whole = run(tmp_path / "whole", Halves(), MUON, Deep())

    def progress(_: str, done: int, __: int) -> None:
        if done == 2:
            raise Stopped

    with pytest.raises(Stopped):
        run(tmp_path / "parts", Halves(), MUON, Deep(), progress=progress)
    _, parts = run(tmp_path / "parts", Halves(), MUON, Deep())
    assert all(torch.equal(v, whole.state_dict()[k]) for k, v in parts.state_dict().items())


def test_muon_needs_a_network_that_names_its_hidden_matrices(tmp_path):
    with pytest.raises(ValueError, match="names its hidden matrices; Sequential does not"):
        run(tmp_path, Halves(), MUON, net())


def test_bf16_rounds_matrix_products_while_training_and_nothing_else(tmp_path):
    """Against torch's own autocast in a plain loop; weights, moments and the validation stay float32."""
    seen: set[tuple[bool, torch.dtype]] = set()

    class Watched(Halves):
        def loss(self, module: Any, batch: Batch) -> torch.Tensor:
            seen.add((True, module(batch[0]).dtype))
            return super().loss(module, batch)

        def score(self, module: Any, batch: Batch) -> torch.Tensor:
            seen.add((False, module(batch[0]).dtype))
            return super().score(module, batch)

    plan = Plan(epochs=1, batch_size=16, learning_rate=0.05, optimizer="sgd", momentum=0.0, schedule="constant")
    module, task = Deep(), Halves()
    for batch in task.batches("train", 1, 0, 16):
        with torch.autocast("cpu", torch.bfloat16):
            loss = task.loss(module, batch)
        module.zero_grad()
        loss.backward()
        with torch.no_grad():
            for p in module.parameters():
                p.sub_(0.05 * p.grad)
    _, ours = run(tmp_path / "bf16", Watched(), dataclasses.replace(plan, precision="bf16"), Deep())
    _, plain = run(tmp_path / "f32", Halves(), plan, Deep())
    assert seen == {(True, torch.bfloat16), (False, torch.float32)}
    for name, value in module.state_dict().items():
        assert ours.state_dict()[name].dtype == torch.float32
        assert torch.allclose(ours.state_dict()[name], value, atol=1e-7)
    assert not torch.equal(ours.layers[0].weight, plain.layers[0].weight)


# Stopping and going on


def test_a_finished_fit_returns_at_once_with_the_best_weights(tmp_path):
    first, module = run(tmp_path, Slide([3, 7, 5, 7, 6, 2]), slide_plan())
    task = Slide([0] * 6)
    again, loaded = run(tmp_path, task, slide_plan())
    assert again == first
    assert (task.seen, task.epochs) == ([], [])
    assert loaded.w.item() == module.w.item() == -4


class Stopped(Exception):
    """Where a test breaks a fit off."""


def stop_after(epochs: int, folder: Path, monkeypatch: pytest.MonkeyPatch, task: Slide, plan: Plan) -> None:
    """Leave the state of a fit that was broken off."""

    def progress(_: str, done: int, __: int) -> None:
        if done == epochs:
            raise Stopped

    with pytest.raises(Stopped):
        run(folder, task, plan, progress=progress)


def test_a_broken_off_fit_goes_on_with_the_next_epoch(tmp_path, monkeypatch):
    stop_after(4, tmp_path, monkeypatch, Slide([3, 7, 5, 7, 6, 2]), slide_plan())
    task = Slide([3, 7, 5, 7, 6, 2])
    fitted, module = run(tmp_path, task, slide_plan())
    assert task.epochs == [5, 6]
    assert (fitted.epoch, fitted.epochs_run, module.w.item()) == (4, 6, -4)


class OtherData(Slide):
    def batches(self, split: str, epoch: int, seed: int, batch_size: int) -> Iterator[Batch]:
        for (x,) in super().batches(split, epoch, seed, batch_size):
            yield (torch.cat([x[:7], torch.zeros(1)]),)


class OtherWeight(Weight):
    def __init__(self) -> None:
        super().__init__()
        self.w.data += 0.5


@pytest.mark.parametrize(
    ("plan", "task", "module", "more"),
    [
        (slide_plan(weight_decay=1e-9), Slide, Weight, {}),
        (slide_plan(), Slide, Weight, {"seed": 1}),
        (slide_plan(), OtherData, Weight, {}),
        (slide_plan(), Slide, OtherWeight, {}),
        (slide_plan(), Slide, Weight, {"key": "another dropout"}),
    ],
    ids=["plan", "seed", "data", "weights", "key"],
)
def test_the_state_of_another_fit_is_not_used(tmp_path, monkeypatch, plan, task, module, more):
    stop_after(4, tmp_path, monkeypatch, Slide([1] * 6), slide_plan())
    mine = task([1] * 6)
    run(tmp_path, mine, plan, module(), **more)
    assert mine.epochs == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("name", ["model-4.safetensors", "best-4.safetensors", "optimizer-4.safetensors", "state.json"])
def test_of_a_damaged_state_the_one_before_is_used_and_the_weights_are_the_same(tmp_path, monkeypatch, name):
    plan = slide_plan(momentum=0.5)
    whole = run(tmp_path / "undisturbed", Slide([1] * 6), plan)[1]
    stop_after(4, tmp_path, monkeypatch, Slide([1] * 6), plan)
    damage(tmp_path / "state" / name)
    epochs: list[int] = []
    task = Slide([1] * 6)
    real = task.batches

    def batches(split, epoch, *rest):
        epochs.append(epoch)
        return real(split, epoch, *rest)

    task.batches = batches
    fitted, module = run(tmp_path, task, plan)
    assert fitted.epochs_run == 6 and module.w.item() == whole.w.item()
    assert min(e for e in epochs if e > 1) == 4  # the first batch of epoch 1 is looked at, to know the data


@pytest.mark.parametrize("name", ["model-3.safetensors", "best-3.safetensors", "optimizer-3.safetensors", "before.json"])
def test_two_damaged_states_are_refused(tmp_path, monkeypatch, name):
    plan = slide_plan(momentum=0.5)
    stop_after(4, tmp_path, monkeypatch, Slide([1] * 6), plan)
    damage(tmp_path / "state" / "state.json")
    damage(tmp_path / "state" / name)
    with pytest.raises(Broken, match=r"remove .*state to start again"):
        run(tmp_path, Slide([1] * 6), plan)


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4])


def test_only_the_two_newest_states_are_kept_on_disk(tmp_path, monkeypatch):
    plan = slide_plan(momentum=0.5)
    stop_after(4, tmp_path, monkeypatch, Slide([1, 1, 5, 1, 1, 1]), plan)
    there = {p.name for p in (tmp_path / "state").iterdir()}
    assert there == {"state.json", "best-3.safetensors", "model-4.safetensors", "optimizer-4.safetensors", "before.json", "model-3.safetensors",
                     "optimizer-3.safetensors"}  # fmt: skip
    run(tmp_path, Slide([1, 1, 5, 1, 1, 1]), plan)
    assert {p.name for p in (tmp_path / "state").iterdir()} == {"state.json", "best-3.safetensors"}


def test_a_state_is_whole_whenever_the_writing_stops(tmp_path, monkeypatch):
    """Stopped before each of its writes in turn, the state on disk is the one of the epoch before."""
    plan = slide_plan(momentum=0.5)
    for stop_at in range(5):  # best, model, optimizer, before.json, state.json
        folder = tmp_path / str(stop_at)
        stop_after(2, folder, monkeypatch, Slide([1] * 6), plan)
        written = []

        def broken_off(path: Path, data: bytes, stop_at: int = stop_at, written: list = written, real: Any = files.write_bytes, **mode: int) -> None:
            if len(written) == stop_at:
                raise Stopped
            written.append(path)
            real(path, data, **mode)

        with monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(files, "write_bytes", broken_off)
            run(folder, Slide([1] * 6), plan)
        assert len(written) == stop_at
        assert len(json.loads((folder / "state" / "state.json").read_text())["history"]) == 2
        fitted, module = run(folder, Slide([1] * 6), plan)
        assert (fitted.epochs_run, fitted.epoch) == (6, 6)
        assert module.w.item() == run(tmp_path / "undisturbed", Slide([1] * 6), plan)[1].w.item()


# Processes: scripts of their own, as a user runs them

SCRIPT = """
import os, signal, sys
from pathlib import Path

import torch
from edgekit import files
from edgekit.checkpoint import save_checkpoint
from edgekit.measurement import silent
from edgekit.train import Plan, fit, launch

out, kind, devices, nodes, stop = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first = torch.nn.Linear(4, 16)
        self.last = torch.nn.Linear(16, 2)
        self.unused = torch.nn.Parameter(torch.ones(1))  # as the leak of a one-timestep network
        random = kind == "random"
        self.between = torch.nn.Sequential(torch.nn.BatchNorm1d(16), torch.nn.Dropout(0.3)) if random else torch.nn.Tanh()

    def forward(self, x):
        return self.last(self.between(self.first(x)))


class Task:
    def batches(self, split, epoch, seed, batch_size):
        x = torch.randn(129, 4, generator=torch.Generator().manual_seed(7))
        x = x[:96] if split == "train" else x[96:]
        if split == "train":
            x = x[torch.randperm(96, generator=torch.Generator().manual_seed(1000 * seed + epoch))]
        for step, at in enumerate(range(0, len(x), batch_size)):
            if split == "train" and stop == f"epoch {epoch}" and step == 3:
                os.kill(os.getpid(), signal.SIGKILL)
            yield x[at : at + batch_size], (x[at : at + batch_size, 0] > 0.1).long()

    def loss(self, module, batch):
        return torch.nn.functional.cross_entropy(module(batch[0]), batch[1])

    def score(self, module, batch):
        return (module(batch[0]).argmax(1) == batch[1]).sum()


if stop == "write":  # die while the third state of this process is written
    real, count = files.write_text, iter(range(9))
    files.write_text = lambda *a: os.kill(os.getpid(), signal.SIGKILL) if next(count) == 2 else real(*a)

fabric = launch(devices, nodes)
torch.manual_seed(fabric.global_rank)  # other ranks begin with other weights: the first one's count
net = Net()
plan = Plan(epochs=6, batch_size=int(sys.argv[6]), learning_rate=0.05, weight_decay=1e-3, clip_norm=1.0)
fitted = fit(fabric, net, Task(), plan, seed=5, state_folder=out / "state", progress=silent, what="net")
if fabric.is_global_zero:
    save_checkpoint(out / "net", net, {"score": fitted.score, "epoch": fitted.epoch, "epochs_run": fitted.epochs_run})
"""


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("script") / "train_it.py"
    path.write_text(SCRIPT)
    return path


def start(
    script: Path, out: Path, kind: str, devices: int = 1, nodes: int = 1, stop: str = "-", batch_size: int = 16, **more: str
) -> subprocess.Popen[str]:
    arguments = [str(out), kind, str(devices), str(nodes), stop, str(batch_size)]
    clean = {k: v for k, v in os.environ.items() if k not in ("LOCAL_RANK", "NODE_RANK", "MASTER_ADDR", "MASTER_PORT", "WORLD_SIZE")}
    environment = {**clean, "PYTHONPATH": str(ROOT), **more}
    return subprocess.Popen(
        [sys.executable, str(script), *arguments], env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finish(process: subprocess.Popen[str], code: int = 0) -> None:
    """Wait; the process must end with `code` and, when it ends well, have said nothing."""
    said, complained = process.communicate(timeout=120)
    assert process.returncode == code, complained
    if code == 0:
        assert (said, complained) == ("", "")


def weights(out: Path) -> dict[str, torch.Tensor]:
    from edgekit.checkpoint import open_checkpoint

    return open_checkpoint(out / "net").state()


def test_a_fit_that_was_killed_twice_ends_with_the_very_same_bytes(script, tmp_path):
    """With batch norm and dropout: running statistics and random numbers go on as well."""
    finish(start(script, tmp_path / "undisturbed", "random"))
    killed = tmp_path / "killed"
    finish(start(script, killed, "random", stop="epoch 3"), -signal.SIGKILL)
    assert len(json.loads((killed / "state" / training_state.MANIFEST).read_text())["history"]) == 2
    finish(start(script, killed, "random", stop="write"), -signal.SIGKILL)
    assert len(json.loads((killed / "state" / training_state.MANIFEST).read_text())["history"]) == 4
    finish(start(script, killed, "random"))
    for name in ("model.safetensors", "checkpoint.json"):
        assert (killed / "net" / name).read_bytes() == (tmp_path / "undisturbed" / "net" / name).read_bytes()


@pytest.fixture(scope="module")
def alone(script: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    """The weights of one process."""
    out = tmp_path_factory.mktemp("alone")
    finish(start(script, out, "plain"))
    return weights(out)


def assert_close(found: dict[str, torch.Tensor], want: dict[str, torch.Tensor]) -> None:
    assert set(found) == set(want)
    for name, tensor in want.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-5, atol=1e-6)


def test_two_processes_give_the_weights_of_one(script, tmp_path, alone):
    finish(start(script, tmp_path, "plain", devices=2))
    assert_close(weights(tmp_path), alone)


def test_two_processes_go_on_where_one_was_killed(script, tmp_path, alone):
    finish(start(script, tmp_path, "plain", stop="epoch 4"), -signal.SIGKILL)
    finish(start(script, tmp_path, "plain", devices=2))
    assert_close(weights(tmp_path), alone)


def test_two_nodes_give_the_weights_of_one(script, tmp_path, alone):
    """Two commands as on two machines, which share no folder; the first node writes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1])}
    nodes = [start(script, tmp_path / str(i), "plain", nodes=2, NODE_RANK=str(i), **address) for i in range(2)]
    for node in nodes:
        finish(node)
    assert_close(weights(tmp_path / "0"), alone)
    assert not (tmp_path / "1").exists()


def test_a_batch_that_cannot_be_shared_is_refused(script, tmp_path):
    process = start(script, tmp_path, "plain", devices=2, batch_size=15)
    _, complained = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "batch_size 15 cannot be shared evenly by 2 processes; choose a multiple" in complained


def test_several_devices_need_a_script_to_start(tmp_path):
    code = "from edgekit.train import launch; launch(2)"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "2 devices need 2 processes that run the same command, but this one came from no file" in done.stderr
