"""Networks with few spikes: strides and OR pooling in place of sums, a price on spikes, batch norms that stay while spiking nets are trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import examine, flow, recipe
from edgekit.errors import EdgekitError
from edgekit.models._iir_snn_fit import Task
from edgekit.models._iir_snn_net import Net, convert, fused, set_thresholds, to_spiking_net, vgg_layers
from edgekit.models._iir_snn_options import Options
from edgekit.spiking_net import simulate

RECIPE = """
family = "iir_snn"
schedule = [1]
controls = false
keep_norms = true
[network]
name = "custom"
layers = [24, "S", 32, "O"]
hidden = [32]
dropout = 0.0
[ann]
epochs = 8
batch_size = 64
learning_rate = 0.005
schedule = "cosine"
[snn]
epochs = 12
batch_size = 64
learning_rate = 0.004
schedule = "cosine"
[sparsity]
rate = 0.07
weight = {weight}
epochs = 16
"""


def train(out: Path, weight: float = 1.0) -> Path:
    path = out.parent / "sparse.toml"
    path.write_text(RECIPE.format(weight=weight))
    flow.train(path, out)
    return out


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("sparse") / "run")


def rows(run: Path) -> dict[str, dict]:
    return {r["label"]: r for r in json.loads((run / "train" / "result.json").read_text())["rows"]}


def test_a_price_on_spikes_brings_rates_down_and_leaves_most_of_the_score(run: Path):
    before, after = rows(run)["T=1"], rows(run)["T=1, few spikes"]
    learned = [n for n in after["spikes_per_neuron"] if not n.startswith("or")]
    assert all(after["spikes_per_neuron"][n] <= 0.15 for n in learned), after["spikes_per_neuron"]
    assert np.mean([before["spikes_per_neuron"][n] for n in learned]) > 2 * np.mean([after["spikes_per_neuron"][n] for n in learned])
    assert before["score"] > 0.9 and after["score"] > 0.8  # a small net, trained for seconds; rounding differs by the number of threads
    assert json.loads((run / "train" / "result.json").read_text())["deploy"] == "t1_sparse"


def test_another_price_trains_its_own_stage_alone(run: Path):
    made = {n: (run / "train" / n / "checkpoint.json").stat().st_mtime_ns for n in ("ann", "t1", "t1_sparse")}
    train(run, weight=0.2)
    again = {n: (run / "train" / n / "checkpoint.json").stat().st_mtime_ns for n in made}
    assert again["ann"] == made["ann"] and again["t1"] == made["t1"] and again["t1_sparse"] > made["t1_sparse"]
    train(run)  # back, for the tests after this one


@pytest.mark.parametrize(("wish", "engine"), [("spike", "spike"), ("onnx-spike:int8", "onnxruntime"), ("onnx-spike:int8", "openvino"), ("onnx", "onnxruntime")])
def test_strides_and_or_pooling_are_the_same_in_every_format(run: Path, tmp_path: Path, wish: str, engine: str):
    bundle = flow.export(run, wish, tmp_path / "b")
    found = examine.verify(bundle, engine)
    assert found.passed, found.failures
    assert wish == "onnx" or found.exact_mismatches == 0
    assert "or2" in next(iter(bundle.manifest.graphs.values())).probes


def test_or_pooling_is_a_population_that_neuromorphic_formats_have(run: Path, tmp_path: Path):
    bundle = flow.export(run, "nir", tmp_path / "b")
    assert examine.verify(bundle, "reference").passed
    assert examine.verify(flow.calibrate(bundle.folder, "loihi", tmp_path / "q"), "reference").passed


def random_net(layers: tuple, norm: bool) -> Net:
    torch.manual_seed(0)
    ann = Net(vgg_layers(layers, (20,), 10), (3, 16, 16), 0.0, spiking=False).train()
    for _ in range(3):  # so that running means are not 0
        ann(torch.randn(16, 3, 16, 16))
    snn = convert(ann.eval(), norm)
    set_thresholds(snn, torch.randn(64, 3, 16, 16), 1, 80.0)
    return snn.eval()


def test_fused_norms_give_the_same_spikes_but_where_rounding_decides():
    kept = random_net((8, "S", 12, "O"), norm=True)
    x = torch.randn(32, 3, 16, 16)
    seen: list[dict[str, torch.Tensor]] = []
    for net in (kept, fused(kept)):
        spikes: dict[str, torch.Tensor] = {}
        with torch.no_grad():
            net(x, 1, lambda layer, _, out, spikes=spikes: spikes.__setitem__(layer, out))
        seen.append(spikes)
    assert set(seen[0]) == {"conv1", "conv2", "or2", "dense1"} and not fused(kept).norms
    for name, spikes in seen[0].items():
        assert (spikes != seen[1][name]).float().mean() < 1e-3, name


def test_or_pooling_as_a_population_is_the_largest_of_each_window():
    net = random_net((8, "O", 12, "S", 8), norm=False)
    plain = to_spiking_net(net, 128, 255)
    images = np.random.default_rng(0).integers(0, 256, (20, 3, 16, 16)).astype(np.uint8)
    found = simulate(plain, images)
    whole = found["conv1"].reshape(20, 8, 8, 2, 8, 2).max(axis=(3, 5))
    np.testing.assert_array_equal(found["or1"], whole)
    assert 0.02 < found["or1"].mean() < 0.98 and found["conv3"].shape[2:] == (4, 4)


@pytest.mark.parametrize(
    ("layers", "says"),
    [
        ((8, "S"), 'layers ends in "S", but no convolution follows'),
        ((8, "O", "O"), "each followed by at most one"),
        (("O", 8), "each followed by at most one"),
        ((8, "A", "S", 8), "each followed by at most one"),
        ((8, "Q"), "found 'Q'"),
    ],
)
def test_layers_that_make_no_network_are_named(layers: tuple, says: str):
    with pytest.raises(ValueError, match=says):
        vgg_layers(layers, (), 10)


@pytest.mark.parametrize("norm", [False, True])
def test_the_price_is_what_the_recipe_says(norm: bool):
    net = random_net((8, "S", 12, "O"), norm)
    x, labels = torch.randn(16, 3, 16, 16), torch.arange(16) % 10
    spikes: dict[str, np.ndarray] = {}
    with torch.no_grad():
        logits = net(x, 1, lambda layer, _, out: spikes.__setitem__(layer, out.numpy()))
    plan = {"epochs": 1, "batch_size": 1, "learning_rate": 1.0}
    options = recipe.fill(Options, {"ann": plan, "snn": plan, "sparsity": {"rate": 0.05, "weight": 0.3}}, "recipe")
    excess = np.mean([max(0.0, spikes[n].mean() - 0.05) / 0.05 for n in ("conv1", "conv2", "dense1")])  # OR pooling only repeats
    assert excess > 0.1
    task = Task(None, options, 1, options.sparsity, frozenset(net.neurons))  # type: ignore[arg-type] - its images are not asked for
    loss = float(task.loss(net, (x, labels)).detach())
    assert loss == pytest.approx(float(torch.nn.functional.cross_entropy(logits, labels)) + 0.3 * excess, rel=1e-5)


def test_a_price_is_checked():
    for wrong, says in ((("rate", 1.0), "between 0 and 1"), (("weight", 0.0), "above 0"), (("epochs", -1), "0 \\(no such stage\\) or more")):
        with pytest.raises(EdgekitError, match=says):
            recipe.fill(Options, {"ann": {"epochs": 1, "batch_size": 1, "learning_rate": 1.0}, "snn": {"epochs": 1, "batch_size": 1, "learning_rate": 1.0},
                                  "sparsity": dict([wrong])}, "recipe")  # fmt: skip
