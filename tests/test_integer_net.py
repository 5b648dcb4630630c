"""Integers inside the hardware's ranges, and what they mean."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import random_nets
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.errors import EdgekitError
from edgekit.integer_net import LOIHI, check_ranges, largest_current, quantise, whole_step
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse, simulate


def one_layer(weights: np.ndarray, bias: np.ndarray, threshold: float, top: int = 127) -> SpikingNet:
    c = len(weights)
    layer = Population("a", (c,), (Synapse(INPUT, "dense", weights.astype(np.float32)),), bias.astype(np.float32), threshold)
    readout = Population("r", (2,), (Synapse("a", "dense", np.ones((2, c), np.float32)),), np.zeros(2, np.float32), None)
    return SpikingNet((weights.shape[1],), top + 1, 1 / (top + 1), (-top - 1, top), (layer, readout), 1.0)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10**6))
def test_every_float_network_fits_the_ranges(seed: int) -> None:
    rng = np.random.default_rng(seed)
    c, n = rng.integers(1, 6), rng.integers(1, 40)
    weights = rng.normal(size=(c, n)) * 10 ** rng.uniform(-4, 3, (c, 1))
    bias = rng.normal(size=c) * 10 ** rng.uniform(-3, 3)
    net = quantise(one_layer(weights, bias, float(10 ** rng.uniform(-1, 1))))
    layer = net.populations[0]
    w = layer.synapses[0].weight
    assert w.min() >= -128 and w.max() <= 127 and w.dtype == np.int8
    assert layer.bias.min() >= -4096 and layer.bias.max() <= 4095
    assert layer.threshold is not None and 0 <= layer.threshold <= 131071
    assert (largest_current(net, layer) + np.abs(layer.bias)).max() <= 131071


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_the_integer_comparison_is_the_real_one_of_the_rounded_weights(seed: int) -> None:
    """Undo the scale: with W' = wq * s, the neuron fires exactly where W' x + b > V, in real numbers."""
    rng = np.random.default_rng(seed)
    weights, bias, threshold = rng.normal(size=(4, 12)), rng.normal(size=4) * 0.3, 0.5
    net = one_layer(weights, bias, threshold)
    integer = quantise(net)
    wq = integer.populations[0].synapses[0].weight.astype(np.float64)
    scale = (np.abs(weights) / np.where(wq == 0, np.inf, np.abs(wq))).max(1)  # near the scale; the exact one from the largest
    largest = np.abs(wq).argmax(1)
    k = rng.integers(-128, 128, (400, 12))
    fires = simulate(integer, k + 128)["a"]
    real = np.empty((400, 4))
    for c in range(4):
        s = abs(np.float32(weights[c, largest[c]])) / abs(wq[c, largest[c]])
        assert np.isclose(s, scale[c], rtol=0.6)
        real[:, c] = (k @ wq[c]) * s / 128 + np.float32(bias[c]) - threshold
    clear = np.abs(real) > 0.02  # s is known to half a unit of the largest weight only
    assert clear.mean() > 0.9
    assert np.array_equal(fires[clear], (real > 0)[clear])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6))
def test_weights_that_are_whole_already_stay_as_they_are(seed: int) -> None:
    """With a step a channel, all in float32: no weight is rounded, so no spike differs where a current is clear of its threshold."""
    rng = np.random.default_rng(seed)
    whole, step = rng.integers(-120, 121, (5, 6)), 10 ** rng.uniform(-3, 0, 5)
    whole[:, 0] = -120  # the largest is negative: -128 would hold it, at another step
    theta = rng.integers(0, 4000, 5) + 0.5
    net = one_layer(whole * step[:, None], 1.0 - theta * step / 128, 1.0)
    layer = quantise(net).populations[0]
    wq = layer.synapses[0].weight.astype(int)
    assert np.array_equal(wq * np.gcd.reduce(whole, axis=1)[:, None], whole)
    k = rng.integers(-128, 128, (300, 6))
    clear = np.abs(k @ whole.T - theta) > 1e-5 / (step / 128)  # what float32 leaves of a bias up to 32
    assert clear.mean() > 0.9
    assert np.array_equal((k @ wq.T + layer.bias > layer.threshold)[clear], (k @ whole.T > theta)[clear])


def test_the_largest_common_step_of_a_row() -> None:
    rows = np.array([[6, -9, 0, 30], [1, 2, 4, 128], [0, 0, 0, 0], [1, 2, 4, 129], [1, np.sqrt(2), np.pi, np.e]]) * 0.37
    assert np.allclose(whole_step(rows, 128), np.array([3, 1, 0, 0, 0]) * 0.37)


@pytest.mark.parametrize("kind", ["dense", "pooled", "strided", "residual"])
def test_eight_bits_keep_most_answers(kind: str) -> None:
    net, image = random_nets.network(kind), random_nets.images(300)
    a, b = simulate(net, image), simulate(quantise(net), image)
    assert (a["logits"].argmax(1) == b["logits"].argmax(1)).mean() > 0.8  # untrained: many logits nearly tie
    first = net.populations[0].name
    assert (a[first] != b[first]).mean() < 0.01


def test_the_largest_current_is_reached_and_not_exceeded() -> None:
    rng = np.random.default_rng(3)
    net = quantise(one_layer(rng.normal(size=(5, 20)), np.zeros(5), 1.0, top=7))
    w = net.populations[0].synapses[0].weight.astype(int)
    up = np.where(w > 0, 7, -8)
    reached = np.maximum((w * up).sum(1), -(w * np.where(w > 0, -8, 7)).sum(1))
    assert largest_current(net, net.populations[0]).tolist() == reached.tolist()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [("bias", np.full(40, 5000, np.int32), "bias runs from 5000"), ("threshold", 200_000, "threshold runs from 200000")],
)
def test_a_value_outside_the_ranges_is_named_with_its_layer(field: str, value: object, message: str) -> None:
    net = quantise(random_nets.network("dense"))
    broken = dataclasses.replace(net.populations[0], **{field: value})  # type: ignore[arg-type]
    with pytest.raises(EdgekitError, match=f"layer 'a': {message}"):
        check_ranges(dataclasses.replace(net, populations=(broken, *net.populations[1:])), LOIHI)


def test_float_networks_and_mixed_inputs_are_refused() -> None:
    net = random_nets.network("pooled")
    with pytest.raises(EdgekitError, match="float weights; quantise it first"):
        check_ranges(net)
    b = net.populations[1]
    extra = Synapse(INPUT, "conv", np.zeros((6, 2, 8, 7), np.float32))
    mixed = dataclasses.replace(b, synapses=(*b.synapses, extra))
    with pytest.raises(EdgekitError, match="layer 'b' mixes the input with spikes"):
        quantise(dataclasses.replace(net, populations=(net.populations[0], mixed, net.populations[2])))
