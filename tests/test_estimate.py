"""Operation counts equal those of independent counters, and prices are added up as they were published."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest

from edgekit.errors import EdgekitError
from edgekit.estimate import PROFILES, LayerCounts, OperationCounts, count, count_ann, price, prices_of
from edgekit.operations import fan_out
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse, current, simulate, synapse_shape


def net_of(input_shape: tuple[int, ...], *populations: Population) -> SpikingNet:
    net = SpikingNet(input_shape, 8, 0.125, (-8, 8), populations, 1.0)
    net.check()
    return net


def dense_net(seed: int = 0) -> SpikingNet:
    """8x8 -> 20 -> 12 -> 5, with some zero weights and a synapse that skips a layer."""
    r = np.random.default_rng(seed)
    w = [r.normal(size=(20, 64)), r.normal(size=(12, 20)), r.normal(size=(5, 12)), r.normal(size=(5, 20))]
    w[1][r.random(w[1].shape) < 0.3] = 0
    return net_of(
        (1, 8, 8),
        Population("a", (20,), (Synapse(INPUT, "dense", w[0]),), r.normal(size=20), 0.5),
        Population("b", (12,), (Synapse("a", "dense", w[1]),), r.normal(size=12), 0.5),
        Population("out", (5,), (Synapse("b", "dense", w[2]), Synapse("a", "dense", w[3])), np.zeros(5), None),
    )


def conv_net(pool: tuple[int, int] = (1, 1), seed: int = 1) -> SpikingNet:
    """1x9x8 -> conv 4 -> (pool) grouped, strided conv 6 -> dense 3."""
    r = np.random.default_rng(seed)
    first = Population("a", (4, 9, 8), (Synapse(INPUT, "conv", r.normal(size=(4, 1, 3, 3)), padding=(1, 1)),), r.normal(size=4), 0.4)
    s = Synapse("a", "conv", r.normal(size=(6, 2, 3, 2)), stride=(2, 1), padding=(1, 0), groups=2, pool=pool)
    second = Population("b", synapse_shape(s, first.shape), (s,), r.normal(size=6), 0.4)
    readout = Synapse("b", "dense", r.normal(size=(3, math.prod(second.shape))))
    return net_of((1, 9, 8), first, second, Population("out", (3,), (readout,), np.zeros(3), None))


def run(net: SpikingNet, samples: int = 5, seed: int = 2) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    image = np.random.default_rng(seed).integers(0, 17, (samples, *net.input_shape))
    result = simulate(net, image)
    result.pop("logits")
    return image, result


def touched_by_hand(s: Synapse, source: tuple[int, ...]) -> np.ndarray:
    """The fan-out written as the loops of the definition: every output, every tap, every element of its window."""
    n = np.zeros(source, int)
    py, px = s.pool
    if s.kind == "dense":
        for c, y, x in itertools.product(range(source[0]), range(source[1] // py * py), range(source[2] // px * px)):
            n[c, y, x] += s.weight.shape[0]
        return n
    outs, ins, kh, kw = s.weight.shape
    _, oh, ow = synapse_shape(s, source)
    h, w = source[1] // py, source[2] // px
    for o, y, x, i, ky, kx in itertools.product(range(outs), range(oh), range(ow), range(ins), range(kh), range(kw)):
        c = o // (outs // s.groups) * ins + i
        row, column = y * s.stride[0] - s.padding[0] + ky * s.dilation[0], x * s.stride[1] - s.padding[1] + kx * s.dilation[1]
        if 0 <= row < h and 0 <= column < w:
            n[c, row * py : row * py + py, column * px : column * px + px] += 1
    return n


@pytest.mark.parametrize("pool", [(1, 1), (2, 2), (3, 2)])
@pytest.mark.parametrize("padding", [(0, 0), (1, 2)])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
@pytest.mark.parametrize("dilation", [(1, 1), (2, 1)])
@pytest.mark.parametrize("groups", [1, 2, 4])
def test_the_fan_out_of_a_convolution_is_that_of_the_loops(pool, padding, stride, dilation, groups):
    s = Synapse("a", "conv", np.zeros((8, 4 // groups, 2, 2)), stride, padding, dilation, groups, pool)
    np.testing.assert_array_equal(fan_out(s, (4, 11, 13)), touched_by_hand(s, (4, 11, 13)))


@pytest.mark.parametrize("pool", [(1, 1), (2, 2), (3, 2)])
def test_the_fan_out_of_a_pooled_dense_synapse_is_that_of_the_loops(pool):
    s = Synapse("a", "dense", np.zeros((7, 2 * (5 // pool[0]) * (7 // pool[1]))), pool=pool)
    np.testing.assert_array_equal(fan_out(s, (2, 5, 7)), touched_by_hand(s, (2, 5, 7)))


@pytest.mark.parametrize("net", [dense_net(), conv_net(), conv_net((2, 2)), conv_net((2, 1))], ids=["dense", "conv", "2x2", "2x1"])
def test_accumulations_are_the_events_that_reach_neurons(net):
    """Another road to the same number: with all weights one and no bias, the currents of a layer sum to its accumulations."""
    _, spikes = run(net)
    for p, layer in zip(net.populations, count(net, spikes).layers, strict=True):
        if any(s.source == INPUT for s in p.synapses):
            assert (layer.acs, layer.macs) == (0, layer.dense_macs)
            continue
        ones = tuple(dataclasses.replace(s, weight=np.ones_like(s.weight)) for s in p.synapses)
        arrived = current(dataclasses.replace(p, synapses=ones, bias=np.zeros_like(p.bias)), {n: x.astype(float) for n, x in spikes.items()})
        assert layer.acs == arrived.sum() > 0
        assert layer.driven == np.count_nonzero(arrived)


@pytest.mark.parametrize("pool", [None, (1, 1), (2, 2), (2, 1)], ids=["dense", "conv", "2x2", "2x1"])
def test_spikingjelly_counts_the_same_accumulations(oracle, pool):
    """SynOpCounter watches torch run each synapse, and weighs each event with its fan-out, zero weights too."""
    import torch

    counters = oracle("spikingjelly.activation_based.op_counter")
    net = dense_net() if pool is None else conv_net(pool)
    _, spikes = run(net)
    for p, layer in zip(net.populations, count(net, spikes).layers, strict=True):
        seen = 0
        for s in p.synapses:
            if s.source == INPUT:
                continue
            module, events = as_torch(s, spikes[s.source])
            counter = counters.SynOpCounter()
            with torch.no_grad(), counters.DispatchCounterMode([counter]):
                module(events)
            seen += counter.get_total()
        assert layer.acs == seen
        assert seen > 0 or p.synapses[0].source == INPUT


def as_torch(s: Synapse, spikes: np.ndarray):
    """A synapse as one torch layer, and its input. Sum-pooling before a convolution is one convolution whose kernel repeats
    each weight and whose stride and padding are as many times as long."""
    import torch

    if s.kind == "dense":
        layer = torch.nn.Linear(s.weight.shape[1], s.weight.shape[0], bias=False)
        layer.weight.data = torch.from_numpy(s.weight.astype(np.float32))
        return layer, torch.from_numpy(spikes.astype(np.float32)).flatten(1)
    py, px = s.pool
    weight = torch.from_numpy(s.weight.repeat(py, axis=2).repeat(px, axis=3).astype(np.float32))
    outs, ins, *kernel = weight.shape
    stride, padding = (s.stride[0] * py, s.stride[1] * px), (s.padding[0] * py, s.padding[1] * px)
    layer = torch.nn.Conv2d(ins * s.groups, outs, tuple(kernel), stride, padding, groups=s.groups, bias=False)
    layer.weight.data = weight
    h, w = spikes.shape[2] // py * py, spikes.shape[3] // px * px  # the pooling drops a last odd row or column
    return layer, torch.from_numpy(spikes[:, :, :h, :w].astype(np.float32))


def test_first_layer_multiplications_are_counted_once_a_sample_unless_asked():
    net = dense_net()
    _, spikes = run(net, samples=5)
    once, always = count(net, spikes, steps=3), count(net, spikes, steps=3, first_layer_every_step=True)
    assert (once.macs, always.macs) == (5 * 64 * 20, 3 * 5 * 64 * 20)
    assert once.acs == always.acs == count(net, spikes).acs
    for profile in ("horowitz45-fp32", "horowitz45-int8"):
        a, b = (price(c, prices_of(profile), memory=True) for c in (once, always))
        assert a.energy_nj_high == pytest.approx(b.energy_nj_high) and a.energy_nj_low == pytest.approx(b.energy_nj_low)
        assert a.energy_nj < b.energy_nj


def test_a_dense_network_costs_its_multiplications():
    net = dense_net()
    ann = count_ann(net, 4)
    assert ann.macs == ann.dense_macs == 4 * (64 * 20 + 20 * 12 + 12 * 5 + 20 * 5)
    assert ann.parameters == 64 * 20 + 20 * 12 + 12 * 5 + 20 * 5 + 20 + 12 + 5
    assert price(ann, prices_of("horowitz45-fp32"), memory=False).energy_nj == pytest.approx(4.6 * ann.macs / 4 / 1000)


def test_one_timestep_costs_multiplications_of_the_first_layer_and_accumulations_of_the_others():
    net = conv_net((2, 2))
    _, spikes = run(net)
    counts = count(net, spikes)
    estimate = price(counts, prices_of("horowitz45-fp32"), memory=False)
    assert estimate.energy_nj == pytest.approx((4.6 * counts.macs + 0.9 * counts.acs) / 5 / 1000)
    assert "memory traffic" in estimate.unpriced and not estimate.includes_memory
    assert estimate.kind == "spec-estimate"


def test_memory_is_priced_word_by_word_at_the_capacity_of_its_buffer():
    """8 kB cost 10 pJ a word, 4 kB half of it: a dense layer of 32 inputs and 32 outputs, all 4 KiB of weights read."""
    net = net_of((1, 4, 8), Population("a", (32,), (Synapse(INPUT, "dense", np.ones((32, 32))),), np.zeros(32), 1.0),
                 Population("out", (2,), (Synapse("a", "dense", np.ones((2, 32))),), np.zeros(2), None))  # fmt: skip
    spikes = {"a": np.zeros((1, 32), np.uint8)}
    spikes["a"][0, :3] = 1
    estimate = price(count(net, spikes), prices_of("horowitz45-fp32"), memory=True)
    pj_a_byte = 10 / 8192
    first = 1024 * (4096 + 128) + 32 * 128 + 2 * 32 * 128 + 3 * 128  # weights and inputs, biases, potentials, sent spikes
    second = 3 * 128 + 6 * 256 + 2 * 6 * 8 + 2 * 8 + 2 * 2 * 8  # spikes, weights, potentials, biases, potentials again
    operations = 4.6 * 1024 + 0.9 * 6
    assert estimate.energy_nj == pytest.approx((pj_a_byte * (first + second) + operations) / 1000)
    assert estimate.energy_nj_low == pytest.approx((pj_a_byte * (first + second) / 2 + operations) / 1000)
    assert estimate.accesses == {
        "input": 1024, "weights": 1024 + 6, "biases": 34, "potentials": 64 + 12 + 4, "spikes in": 3, "spikes out": 3,
    }  # fmt: skip


def test_a_buffer_larger_than_any_published_price_gives_no_energy():
    net = net_of((1, 1, 600), Population("out", (600,), (Synapse(INPUT, "dense", np.ones((600, 600))),), np.zeros(600), None))
    estimate = price(count_ann(net, 1), prices_of("horowitz45-fp32"), memory=True)
    assert (estimate.energy_nj_low, estimate.energy_nj, estimate.energy_nj_high) == (None, None, None)
    assert "1440000 bytes" in estimate.reason and "1048576" in estimate.reason


def test_the_loihi_file_of_sana_fe_gives_what_sana_fe_gives():
    """A run of SANA-FE 2.2.9, four steps: 74 neurons (296 accesses), 120 updates, 28 spikes, 51 messages, 1752 synaptic
    operations: 62.196 + 19.6876 + 5.661 nJ."""
    layer = LayerCounts("all", 74, 28, 0, 1752, 0, 0, driven=120, messages=51)
    estimate = price(OperationCounts(1, 4, (layer,)), prices_of("loihi1-sanafe"), memory=True)
    assert estimate.energy_nj == pytest.approx(62.196 + 19.6876 + 5.661)


def test_loihi_leaves_the_analog_layer_out_and_says_so():
    net = dense_net()
    _, spikes = run(net)
    counts = count(net, spikes)
    estimate = price(counts, prices_of("loihi1-davies2018"), memory=False)
    driven, messages = sum(x.driven for x in counts.layers), sum(x.messages for x in counts.layers)
    total = 23.6 * counts.acs + 81 * driven + 52 * (counts.neuron_updates - driven) + 1.7 * messages
    assert estimate.energy_nj == pytest.approx(total / 5 / 1000)
    assert messages == 2 * spikes["a"].sum() + spikes["b"].sum()  # two populations listen to a
    assert f"{counts.macs} multiplications" in estimate.unpriced[0]
    assert estimate.includes_memory and "memory traffic" not in estimate.unpriced


@pytest.mark.parametrize("memory", [False, True])
@pytest.mark.parametrize("name", sorted(PROFILES))
def test_low_is_not_above_high_or_there_is_a_reason(name, memory):
    net = conv_net((2, 1))
    _, spikes = run(net)
    for counts in (count(net, spikes, steps=2), count_ann(net, 5)):
        estimate = price(counts, PROFILES[name], memory)
        if estimate.energy_nj is None:
            assert estimate.reason and estimate.energy_nj_low is None and estimate.energy_nj_high is None
        else:
            assert 0 < estimate.energy_nj_low <= estimate.energy_nj <= estimate.energy_nj_high and not estimate.reason
            assert estimate.unpriced and estimate.spread


def test_loihi_2_has_no_published_price():
    estimate = price(count_ann(dense_net(), 1), prices_of("loihi2"), memory=False)
    assert estimate.energy_nj is None and "published" in estimate.reason
    assert estimate.operations["macs"] == 64 * 20 + 20 * 12 + 12 * 5 + 20 * 5


def test_a_wrong_profile_lists_the_right_ones():
    with pytest.raises(EdgekitError, match="no price profile 'loihi3'; there are: horowitz45-fp32, horowitz45-int8, loihi1-davies2018"):
        prices_of("loihi3")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("b"), "spiking populations are"),
        (lambda s: s.update(b=s["b"][:2]), "same samples"),
        (lambda s: s.update(b=s["b"][:, :3]), "shape"),
        (lambda s: s.update(b=s["b"] + 1), "give steps="),
        (lambda s: s.update(b=s["b"].astype(float)), "integers"),
        (lambda s: s.update(a=s["a"][:0], b=s["b"][:0]), "same samples"),
    ],
)
def test_spikes_that_do_not_fit_the_network_are_refused(change, says):
    net = dense_net()
    _, spikes = run(net)
    assert spikes["b"].any()
    change(spikes)
    with pytest.raises(EdgekitError, match=says):
        count(net, spikes)
