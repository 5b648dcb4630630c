"""The numpy simulator against torch, its file against itself."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import random_nets
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from edgekit import spiking_net
from edgekit.errors import Broken, EdgekitError
from edgekit.spiking_net import INPUT, SpikingNet, Synapse, simulate, synapse_shape

KINDS = ["dense", "pooled", "strided", "residual"]


def by_torch(net: SpikingNet, image: np.ndarray) -> dict[str, np.ndarray]:
    """The same equations with torch's convolutions, float64."""
    values = {INPUT: (torch.from_numpy(image).double() - net.input_offset) * net.input_scale}
    result = {}
    for p in net.populations:
        u = torch.from_numpy(p.bias).double().reshape(1, -1, *[1] * (len(p.shape) - 1))
        for s in p.synapses:
            x, w = values[s.source], torch.from_numpy(s.weight).double()
            if s.pool != (1, 1):
                x = F.avg_pool2d(x, s.pool) * (s.pool[0] * s.pool[1])
            u = u + (F.linear(x.flatten(1), w) if s.kind == "dense" else F.conv2d(x, w, None, s.stride, s.padding, s.dilation, s.groups))
        if p.threshold is None:
            result["logits"] = u.numpy()
        else:
            values[p.name] = (u > p.threshold).double()
            result[p.name] = values[p.name].numpy()
    return result


@pytest.mark.parametrize("kind", KINDS)
def test_the_simulator_gives_torchs_spikes_and_logits(kind: str) -> None:
    net, image = random_nets.network(kind), random_nets.images()
    ours, theirs = simulate(net, image), by_torch(net, image)
    assert set(ours) == set(theirs)
    for name, expected in theirs.items():
        if name == "logits":
            assert np.abs(ours[name] - expected).max() < 1e-5
        else:
            assert np.array_equal(ours[name], expected)
            assert 0.01 < expected.mean() < 0.99


@settings(max_examples=40, deadline=None)
@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)), stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)), dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2]), pool=st.sampled_from([(1, 1), (2, 2), (3, 2)]), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_geometry_has_torchs_shape_and_currents(
    kernel: tuple[int, int], stride: tuple[int, int], padding: tuple[int, int], dilation: tuple[int, int], groups: int,
    pool: tuple[int, int], seed: int,
) -> None:  # fmt: skip
    rng = np.random.default_rng(seed)
    s = random_nets.conv(rng, INPUT, 4, 2, kernel, stride=stride, padding=padding, dilation=dilation, groups=groups, pool=pool)
    x = torch.from_numpy(rng.integers(0, 5, (2, 2, 17, 13))).double()
    pooled = F.avg_pool2d(x, pool) * (pool[0] * pool[1])
    expected = F.conv2d(pooled, torch.from_numpy(s.weight).double(), None, stride, padding, dilation, groups)
    assert synapse_shape(s, (2, 17, 13)) == tuple(expected.shape[1:])
    assert np.allclose(spiking_net._transmit(s, x.numpy()), expected.numpy(), atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_network_is_loaded_to_the_bit(kind: str, tmp_path: Path) -> None:
    net = random_nets.network(kind)
    spiking_net.save(net, tmp_path / "n.safetensors")
    back = spiking_net.load(tmp_path / "n.safetensors")
    image = random_nets.images(20)
    ours, theirs = simulate(net, image), simulate(back, image)
    assert all(np.array_equal(ours[k], theirs[k]) for k in ours)
    assert back.populations[0].synapses[0].weight.dtype == np.float32


def test_a_file_that_is_no_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    path.write_bytes(b"garbage")
    with pytest.raises(Broken, match=r"n\.safetensors"):
        spiking_net.load(path)


@pytest.mark.parametrize("change", ["order", "shape", "bias", "readout", "groups"])
def test_parts_that_do_not_fit_are_named(change: str) -> None:
    net = random_nets.network("strided")
    a, b, readout = net.populations
    broken = {
        "order": (b, a, readout),
        "shape": (dataclasses.replace(a, shape=(8, 9, 9)), b, readout),
        "bias": (dataclasses.replace(a, bias=a.bias[:-1]), b, readout),
        "readout": (a, dataclasses.replace(b, threshold=None), readout),
        "groups": (a, dataclasses.replace(b, synapses=(dataclasses.replace(b.synapses[0], groups=3),)), readout),
    }[change]
    with pytest.raises(EdgekitError):
        dataclasses.replace(net, populations=broken).check()


def test_a_dense_synapse_that_gets_another_width_says_both() -> None:
    with pytest.raises(EdgekitError, match="takes 5 values, but gets 6"):
        synapse_shape(Synapse(INPUT, "dense", np.zeros((2, 5), np.float32)), (6,))
