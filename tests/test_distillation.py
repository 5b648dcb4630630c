"""Spiking networks that learn from an ANN beside the labels: the loss, who teaches, and what is not trained again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from scipy.special import log_softmax

from edgekit import examine, flow, recipe
from edgekit.cli.report import command
from edgekit.errors import EdgekitError
from edgekit.images import load_images
from edgekit.models._iir_snn_fit import Task
from edgekit.models._iir_snn_options import Options, build, options_of

PLAN = {"epochs": 6, "batch_size": 64, "learning_rate": 0.005, "schedule": "cosine"}
RECIPE = {
    "schedule": [1], "controls": False, "keep_norms": True, "ann": PLAN, "snn": PLAN,
    "network": {"name": "custom", "layers": [8, "A"], "hidden": [16], "dropout": 0.0},
}  # fmt: skip
TEXT = """
family = "iir_snn"
schedule = [1]
controls = false
keep_norms = true
[network]
name = "custom"
layers = [8, "A"]
hidden = [16]
dropout = 0.0
[ann]
epochs = 6
batch_size = 64
learning_rate = 0.005
[snn]
epochs = {epochs}
batch_size = 64
learning_rate = 0.005
{distillation}
"""
OWN = '[distillation]\nweight = 0.9\ntemperature = 3.0\nlayers = [16, "A"]\nhidden = [32]\nepochs = 9'


def options(**distillation: object) -> Options:
    return options_of({**RECIPE, "distillation": distillation})


def train(out: Path, distillation: str, epochs: int = 6) -> Path:
    path = out.parent / "taught.toml"
    path.write_text(TEXT.format(distillation=distillation, epochs=epochs))
    flow.train(path, out)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("taught") / "run", OWN)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize(("weight", "temperature"), [(0.7, 2.0), (1.0, 5.0), (0.25, 0.5)])
def test_the_loss_is_the_published_one(weight: float, temperature: float, steps: int):
    """Against numpy and scipy, in float64."""
    data = load_images("digits")
    o = options(weight=weight, temperature=temperature)
    torch.manual_seed(1)
    student, teacher = build(o, data, spiking=True).train(), build(o, data, spiking=False).eval()
    for net in (student, teacher):  # untrained logits are all alike
        net.weights["readout"].weight.data *= 20
    x, labels = next(Task(data, o, 1).batches("train", 1, 0, 32))
    got = float(Task(data, o, steps, teacher=teacher).loss(student, (x, labels)).detach())
    with torch.no_grad():
        s, a = student(x, steps).double().numpy(), teacher(x).double().numpy()
    hard = -log_softmax(s, 1)[np.arange(32), labels.numpy()].mean()
    p = log_softmax(a / temperature, 1)
    soft = (np.exp(p) * (p - log_softmax(s / temperature, 1))).sum(1).mean()
    assert got == pytest.approx((1 - weight) * hard + weight * temperature**2 * soft, rel=1e-4)


@pytest.mark.parametrize("steps", [1, 3])
def test_mixtures_are_of_two_images_and_so_is_what_is_missed(steps: int):
    data = load_images("digits")
    o = options(weight=0.4, mixup=0.5)
    torch.manual_seed(1)
    student, teacher = build(o, data, spiking=True), build(o, data, spiking=False).eval()
    plain, labels = next(Task(data, o, steps).batches("train", 1, 0, 32))  # nobody teaches: no mixtures, in the same order
    task = Task(data, o, steps, teacher=teacher)
    x, first, second, share = next(task.batches("train", 1, 0, 32))
    assert torch.equal(first, labels) and share.dtype == torch.float32 and ((share >= 0) & (share <= 1)).all()
    assert 0.3 < float(share.mean()) < 0.7 and float(((share < 0.1) | (share > 0.9)).float().mean()) > 0.2  # Beta(1/2, 1/2) has its weight at both ends
    every = share.reshape(-1, 1, 1, 1, 1) * plain[:, None] + (1 - share).reshape(-1, 1, 1, 1, 1) * plain[None]
    is_it = (every - x[:, None]).abs().amax((2, 3, 4)) < 1e-6
    assert (is_it & (labels[None] == second[:, None])).any(1).all()
    assert len(next(task.batches("validation", 1, 0, 32))) == 2

    def missed(i: int, named: torch.Tensor) -> float:
        return float(task.loss(student, (x[i : i + 1], named[i : i + 1])).detach())

    student.eval()  # one image has no statistics of its own
    got = float(task.loss(student, (x, first, second, share)).detach())
    one_by_one = [float(share[i]) * missed(i, first) + float(1 - share[i]) * missed(i, second) for i in range(32)]
    assert got == pytest.approx(np.mean(one_by_one), rel=1e-4)


def test_the_teacher_gets_no_gradient_and_none_is_none():
    data = load_images("digits")
    student, teacher = build(options(), data, spiking=True), build(options(), data, spiking=False).eval()
    batch = next(Task(data, options(), 1).batches("train", 1, 0, 16))
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    Task(data, options(weight=0.5), 1, teacher=teacher).loss(student, batch).backward()
    assert all(p.grad is None for p in teacher.parameters())
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    alone = Task(data, options(weight=0.5), 1).loss(student, batch)
    assert torch.equal(alone, torch.nn.functional.cross_entropy(student(batch[0], 1), batch[1]))


def test_a_teacher_of_its_own_size_is_trained_once_and_not_deployed(run: Path):
    result = json.loads((run / "train" / "result.json").read_text())
    assert [(r["label"], r["role"]) for r in result["rows"]] == [("ANN", "ann"), ("ANN, teacher", "teacher"), ("T=1", "stage")]
    assert result["deploy"] == "t1" and result["rows"][1]["epochs"] == 9
    assert result["rows"][1]["score"] > 0.9 and result["rows"][2]["score"] > 0.8
    bundle = flow.export(run, "spike", run.parent / "b")
    assert examine.verify(bundle, "spike").passed
    said = CliRunner().invoke(command, [str(run)])
    assert said.exit_code == 0, said.output
    assert "ANN, teacher" in (run / "report" / "page.html").read_text()


def test_what_does_not_depend_on_it_stays(run: Path):
    folders = ("ann", "teacher", "t1")

    def made() -> dict[str, int]:
        return {n: (run / "train" / n / "checkpoint.json").stat().st_mtime_ns for n in folders}

    first = made()
    train(run, OWN)
    assert made() == first
    train(run, OWN.replace("weight = 0.9", "weight = 0.5"), epochs=5)
    again = made()
    assert again["ann"] == first["ann"] and again["teacher"] == first["teacher"] and again["t1"] > first["t1"]
    train(run, "[distillation]\nweight = 0.5", epochs=5)  # the ANN that it was made from
    assert made()["ann"] == first["ann"] and made()["t1"] > again["t1"]
    assert [r["role"] for r in json.loads((run / "train" / "result.json").read_text())["rows"]] == ["ann", "stage"]


def test_wrong_values_are_named():
    for wrong, says in (({"weight": 1.5}, "share from 0 \\(none\\) to 1"), ({"temperature": 0.0}, "above 0"), ({"epochs": -1}, "0 \\(those of the ANN\\) or more")):
        with pytest.raises(EdgekitError, match=says):
            recipe.fill(Options, {"ann": PLAN, "snn": PLAN, "distillation": wrong}, "recipe")
