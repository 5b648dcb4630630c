"""The IIR-SNN family: neuron, networks, conversion, thresholds, exactness at one timestep."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import recipe, registry
from edgekit.errors import EdgekitError
from edgekit.models._iir_snn_deploy import Deployed
from edgekit.models._iir_snn_net import (
    VGG,
    Net,
    convert,
    resnet20_layers,
    set_thresholds,
    to_spiking_net,
    vgg_layers,
)
from edgekit.models._lif import GAMMA, Lif, Spike
from edgekit.parts import Family
from edgekit.spiking_net import simulate


def small(spiking: bool = True, layers: tuple[int | str, ...] = (6, "A", 8, "A"), hidden: tuple[int, ...] = (12,)) -> Net:
    torch.manual_seed(1)
    return Net(vgg_layers(layers, hidden, 10), (1, 8, 8), 0.0, spiking)


def images(n: int = 40, shape: tuple[int, ...] = (1, 8, 8), top: int = 16) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top + 1, (n, *shape)).astype(np.uint8)


def test_the_neuron_follows_its_equations_step_by_step() -> None:
    lif = Lif()
    with torch.no_grad():
        lif.threshold.fill_(0.8)
        lif.leak.fill_(0.9)
    currents = torch.tensor([[0.5, 0.9, 2.0], [0.5, -0.1, 0.3], [0.1, 0.2, 0.4]])
    u, state = np.zeros(3), None
    for current in currents:
        spikes, state = lif(current, state)
        u = 0.9 * u + current.numpy()
        expected = (u / 0.8 - 1 > 0).astype(float)
        u = u - 0.8 * expected  # soft reset, in the same step
        assert spikes.tolist() == expected.tolist()
        assert np.allclose(state.detach().numpy(), u, atol=1e-6)


def test_the_surrogate_is_a_triangle_of_height_gamma() -> None:
    z = torch.linspace(-2, 2, 41, requires_grad=True)
    Spike.apply(z).sum().backward()
    assert z.grad is not None
    assert torch.allclose(z.grad, GAMMA * (1 - z.detach().abs()).clamp(min=0))


def test_threshold_and_leak_learn_and_the_indicator_in_the_reset_is_not_differentiated() -> None:
    lif = Lif()
    current = torch.tensor([0.7, 1.4], requires_grad=True)
    _, u = lif(current, None)
    u.sum().backward()
    # u' = u - V * o with o held constant: du'/dI = 1 exactly, du'/dV = -o.
    assert current.grad is not None and current.grad.tolist() == [1.0, 1.0]
    assert lif.threshold.grad is not None and float(lif.threshold.grad) == -1.0


def test_the_leak_never_exceeds_one() -> None:
    lif = Lif()
    with torch.no_grad():
        lif.leak.fill_(1.7)
    lif(torch.ones(2), None)
    assert float(lif.leak.detach()) == 1.0


def test_fused_batch_norms_give_the_same_currents() -> None:
    ann = small(spiking=False)
    ann.train()
    x = torch.randn(64, 1, 8, 8)
    for _ in range(5):
        ann(x)
    ann.eval()
    with torch.no_grad():
        snn = convert(ann)
        first = ann.layers[0]
        assert torch.allclose(ann.current(first, {"input": x}), snn.current(first, {"input": x}), atol=1e-5)


def test_thresholds_are_the_percentile_of_the_current_with_a_floor() -> None:
    snn = small()
    x = torch.randn(100, 1, 8, 8)
    set_thresholds(snn, x, 2, 90.0)
    with torch.no_grad():
        current = snn.current(snn.layers[0], {"input": x}).numpy()
    neuron = snn.neurons["conv1"]
    assert isinstance(neuron, Lif)
    assert np.isclose(float(neuron.threshold.detach()), max(0.1, np.percentile(current, 90)), rtol=1e-6)
    set_thresholds(snn, x * 0, 1, 90.0)
    assert all(float(n.threshold.detach()) >= 0.1 for n in snn.neurons.values())  # type: ignore[operator]


def test_at_one_timestep_folded_thresholds_and_plain_arrays_give_the_trained_networks_spikes() -> None:
    snn = small()
    pixels = images()
    x = (torch.from_numpy(pixels).float() - 8) / 8
    set_thresholds(snn, x, 1, 80.0)
    seen: dict[str, np.ndarray] = {}
    near: dict[str, np.ndarray] = {}

    def watch(layer: str, current: torch.Tensor, spikes: torch.Tensor) -> None:
        seen[layer] = spikes.numpy()
        near[layer] = (current / snn.neurons[layer].threshold - 1).abs().numpy() < 1e-6  # type: ignore[operator]

    with torch.no_grad():
        logits = snn(x, 1, watch).numpy()
        folded_logits, *folded = (t.numpy() for t in Deployed(snn, 8)(torch.from_numpy(pixels)))
    plain = simulate(to_spiking_net(snn, 8, 16), pixels)
    assert np.abs(folded_logits - logits).max() < 1e-5
    assert np.abs(plain["logits"] - logits).max() < 1e-5
    for (layer, spikes), other in zip(seen.items(), folded, strict=True):
        assert 0.02 < spikes.mean() < 0.6  # the comparison is not of silent layers
        assert not ((spikes != other) & ~near[layer]).any()
        assert not ((spikes != plain[layer]) & ~near[layer]).any()


def test_leak_and_reset_are_dead_at_one_timestep_and_alive_at_two() -> None:
    snn = small()
    x = torch.randn(16, 1, 8, 8)
    set_thresholds(snn, x, 1, 80.0)
    with torch.no_grad():
        one, two = snn(x, 1), snn(x, 2)
        for neuron in snn.neurons.values():
            neuron.leak.fill_(0.3)  # type: ignore[operator, union-attr]
        assert torch.equal(snn(x, 1), one)
        assert not torch.equal(snn(x, 2), two)


def test_logits_are_summed_over_the_steps() -> None:
    snn = small()
    x = torch.randn(4, 1, 8, 8)
    set_thresholds(snn, x, 1, 80.0)
    outs: list[torch.Tensor] = []
    with torch.no_grad():
        total = snn(x, 3, lambda layer, _, spikes: outs.append(spikes) if layer == "dense1" else None)
        readout = snn.weights["readout"]
        assert torch.allclose(sum(readout(o) for o in outs), total, atol=1e-5)  # type: ignore[arg-type]
    assert len(outs) == 3


def test_one_dropout_mask_serves_all_steps() -> None:
    torch.manual_seed(0)
    snn = Net(vgg_layers((4,), (), 10), (1, 8, 8), 0.5, True)
    snn.train()
    masks: dict[str, torch.Tensor] = {}
    layer, ones = snn.layers[0], torch.ones(2, 4, 8, 8)
    first = snn._after(layer, ones, masks)
    assert torch.equal(first, snn._after(layer, ones, masks))
    assert 0.3 < float((first == 0).float().mean()) < 0.7


@pytest.mark.parametrize(("name", "convs", "weights"), [("vgg5", 3, 3), ("vgg9", 7, 3), ("vgg16", 13, 3)])
def test_the_networks_of_the_table(name: str, convs: int, weights: int) -> None:
    layers = vgg_layers(*VGG[name], 10)
    assert sum(layer.kind == "conv" for layer in layers) == convs
    assert sum(layer.kind == "dense" for layer in layers) == weights


def test_vgg16_has_the_multiplications_of_the_paper() -> None:
    """338.4 M multiply-accumulates for 32x32 colour images, 1.77 M of them in the first layer (specification, own arithmetic)."""
    shape: tuple[int, ...] = (3, 32, 32)
    macs = []
    for layer in vgg_layers(*VGG["vgg16"], 10):
        if layer.kind == "conv":
            macs.append(9 * shape[0] * layer.out * shape[1] * shape[2])
            shape = (layer.out, *(n // 2 if layer.pool else n for n in shape[1:]))
        else:
            macs.append(int(np.prod(shape)) * layer.out)
            shape = (layer.out,)
    assert round(sum(macs) / 1e6, 1) == 338.4
    assert round(macs[0] / 1e6, 2) == 1.77


def test_resnet20_adds_its_shortcuts_to_the_current() -> None:
    layers = resnet20_layers(10)
    assert len([x for x in layers if x.kind == "conv"]) == 19  # and one dense layer: twenty
    torch.manual_seed(0)
    snn = Net(layers, (3, 32, 32), 0.0, True)
    pixels = images(4, (3, 32, 32), 255)
    x = (torch.from_numpy(pixels).float() - 128) / 128
    set_thresholds(snn, x, 1, 90.0)
    seen: dict[str, np.ndarray] = {}
    with torch.no_grad():
        logits = snn(x, 1, lambda name, _, spikes: seen.update({name: spikes.numpy()})).numpy()
    plain = simulate(to_spiking_net(snn, 128, 255), pixels)
    assert np.abs(plain["logits"] - logits).max() < 1e-4
    assert sum(int((plain[n] != s).sum()) for n, s in seen.items()) <= 2  # float32 against float64, at the threshold


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"name": "custom", "layers": ["A", 8]}, "layers takes channel counts"),
        ({"name": "custom", "layers": [8, "A", 8, "A", 8, "A", 8, "A"]}, "pooling after conv4"),
        ({"name": "custom"}, "needs at least one"),
        ({"name": "digits", "layers": [8]}, 'belong to name = "custom"'),
        ({"name": "vgg7"}, "must be one of"),
    ],
)
def test_a_network_that_cannot_be_is_refused(tmp_path: Path, network: dict[str, object], message: str) -> None:
    from edgekit.images import load_images
    from edgekit.models._iir_snn_options import Options, build

    plan = {"epochs": 1, "batch_size": 64, "learning_rate": 0.1}
    with pytest.raises(EdgekitError, match=message):
        options = recipe.fill(Options, {"network": network, "ann": plan, "snn": plan}, "r")
        build(options, load_images("digits"), spiking=True)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"schedule": [1, 2]}, "schedule must fall"), ({"schedule": []}, "schedule must fall"), ({"stage_epochs": [1]}, "one number for each"),
     ({"percentile": 0.0}, "percentile")],
)  # fmt: skip
def test_a_schedule_that_makes_no_sense_is_refused(values: dict[str, object], message: str) -> None:
    family = registry.load(Family, "iir_snn")
    plan = {"epochs": 1, "batch_size": 64, "learning_rate": 0.1}
    with pytest.raises(EdgekitError, match=message):
        recipe.fill(family.options(), {"ann": plan, "snn": plan, **values}, "r")


def test_moved_images_are_shifts_of_themselves() -> None:
    from edgekit.models._iir_snn_fit import _moved

    batch = images(20)
    moved = _moved(batch, np.random.default_rng(0), 1, flip=False)
    for one, other in zip(batch, moved, strict=True):
        padded = np.pad(one, ((0, 0), (1, 1), (1, 1)), mode="edge")
        assert any(np.array_equal(other, padded[:, y : y + 8, x : x + 8]) for y in range(3) for x in range(3))
    assert dataclasses.is_dataclass(registry.load(Family, "iir_snn").options())
