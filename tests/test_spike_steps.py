"""Spiking networks of several timesteps in the spike engine: membranes in integers against numpy, loops, streams of frames, and events."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from random_nets import Random, images, network
from test_spike import kernels

from edgekit import examine, flow, registry, spiking_net, stepped_net
from edgekit.bundle import Bundle, Golden
from edgekit.errors import Broken, EdgekitError
from edgekit.layers import profile_layers
from edgekit.parts import Exporter, Runtime
from edgekit.process_run import Request
from edgekit.program import Feed, Join, Phase, Program, State, Stream, value
from edgekit.signature import Signature, Tensor
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse
from edgekit.stepped_net import LEAK_ONE, MEMBRANE, FloatNeuron, Neuron, SteppedNet

STEPS = 5


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := registry.load(Runtime, "spike").ready():
        pytest.skip(reason)
    for name in ("EDGEKIT_SPIKE_KERNELS", "EDGEKIT_SPIKE_WAY"):
        monkeypatch.delenv(name, raising=False)


def stepped(kind: str, seed: int) -> SteppedNet:
    """Soft and hard resets, leaks from none at all over some to all, one that forgets and one that turns."""
    rng = np.random.default_rng(seed)
    net = dataclasses.replace(network(kind, seed), input_offset=0, input_range=(0, 16))
    leaks = (1.0, 0.9, 0.37, 0.0, -0.5)
    neurons = {
        p.name: FloatNeuron(float(rng.uniform(0.2, 0.6)), leaks[(seed + i) % 5], "hard" if (seed // 5 + i) % 2 else "soft")
        for i, p in enumerate(net.populations)
        if p.spiking
    }
    return stepped_net.quantise(net, neurons)


class Steps(Random):
    """A network without training, in a loop over one image or over a stream of frames."""

    def __init__(self, made: SteppedNet, streams: bool = False) -> None:
        super().__init__(made.net)
        self.made, self.streams = made, streams
        image, logits = self.signature.inputs[0], self.signature.outputs[0]
        states = {f"u_{n}": ("batch", *made.net.shape_of(n)) for n in made.neurons} | {"logits": ("batch", 10)}
        ports = [Tensor(n, "float32", s) for n, s in states.items()]
        self.graphs = {"main": Signature((image, *ports), tuple(dataclasses.replace(t, name=f"{t.name}_next") for t in ports))}
        kept = {n: State("float32", s) for n, s in states.items()}
        carry = {f"{n}_next": n for n in states}
        inputs = {n: value(n) for n in ("image", *states)}
        if streams:
            frames = Tensor("frames", "uint8", ("batch", "bins", *made.net.input_shape))
            self.signature = Signature((frames,), (dataclasses.replace(logits, shape=("batch", "bins", 10)),))
            inputs["image"] = value("frames")
            phase = Phase("main", inputs=inputs, carry=carry)
            self.program = Program((Stream({"frames": Feed(1)}, (phase,), {"logits": Join("stack", 1)}, kept),))
        else:
            self.program = Program((Phase("main", "steps", STEPS, inputs=inputs, states=kept, carry=carry),))

    def stepped_net(self) -> SteppedNet:
        return self.made

    def goldens(self) -> list[Golden]:
        x = frames(4) if self.streams else images(4)
        found = stepped_net.simulate(self.made, x, STEPS)
        return [Golden({"frames" if self.streams else "image": x}, {"logits": found.pop("logits")}, found, {})]


def frames(n: int, seed: int = 2) -> np.ndarray:
    """Counts of events, mostly none."""
    return np.random.default_rng(seed).poisson(0.4, (n, STEPS, 2, 9, 8)).astype(np.uint8)


def exported(made: SteppedNet, out: Path, streams: bool = False) -> Bundle:
    return registry.find(Exporter, "spike").export(Steps(made, streams), out, {})


@pytest.mark.parametrize("kind", ["dense", "pooled", "strided", "residual"])
def test_every_spike_of_every_step_is_the_integer_reference(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    for seed in range(10):
        made = stepped(kind, seed)
        bundle = exported(made, tmp_path / f"{kind}{seed}")
        expected = stepped_net.simulate(made, images(20, seed), STEPS)
        for name in kernels(bundle, monkeypatch):
            monkeypatch.setenv("EDGEKIT_SPIKE_KERNELS", name)
            for way in ("events", "dense"):
                monkeypatch.setenv("EDGEKIT_SPIKE_WAY", way)
                with registry.find(Runtime, "spike").open(bundle, probes=True) as session:
                    for _ in range(2):  # membranes begin at rest again
                        got = session.run({"image": images(20, seed)})
                        assert set(got) == set(expected)
                        for n, v in expected.items():
                            np.testing.assert_array_equal(got[n], v, err_msg=f"{n} {name} {way} seed {seed}")
        assert examine.verify(bundle, "spike").exact_mismatches == 0


def test_a_float_simulation_in_between_agrees_where_weights_are_whole(tmp_path: Path):
    """An independent simulator: u, reset and leak in float64 of the float network, which a step of 1 makes exact."""
    rng = np.random.default_rng(5)
    weight = rng.integers(-127, 128, (20, 2, 3, 3)).astype(np.float32)
    weight[:, 0, 0, 0] = 127  # the step of each channel is 1
    first = Population("a", (20, 9, 8), (Synapse(INPUT, "conv", weight, padding=(1, 1)),), rng.integers(-40, 40, 20).astype(np.float32), 1.0)
    out = rng.integers(-127, 128, (10, 20 * 72)).astype(np.float32)
    out[:, 0] = 127
    last = Population("readout", (10,), (Synapse("a", "dense", out),), np.zeros(10, np.float32), None)
    net = SpikingNet((2, 9, 8), 0, 1.0, (0, 16), (first, last), 1.0)
    made = stepped_net.quantise(net, {"a": FloatNeuron(1000.0, 0.75, "soft")})
    got = stepped_net.simulate(made, images(6), STEPS)["a"]
    u = np.zeros((6, 20, 9, 8))
    current = spiking_net.current(first, {INPUT: images(6).astype(np.float64)})
    for t in range(STEPS):
        u = np.trunc(u * 0.75) + current
        spikes = u > 1000
        u -= 1000 * spikes
        np.testing.assert_array_equal(got[t], spikes)


def test_a_stream_takes_frames_and_events_alike(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    made = stepped("pooled", 1)
    bundle = exported(made, tmp_path / "b", streams=True)
    found = examine.verify(bundle, "spike")
    assert found.passed and found.exact_mismatches == 0
    x = frames(1, 7)
    x[0, 2, 0, 3, 4] = 255
    expected = stepped_net.simulate(made, x, STEPS)
    for name in kernels(bundle, monkeypatch):
        monkeypatch.setenv("EDGEKIT_SPIKE_KERNELS", name)
        with registry.find(Runtime, "spike").open(bundle, probes=True) as session:
            got = session.run({"frames": x})
            session.begin({})
            for t in range(STEPS):
                packet = events_of(x[0, t], extra=60 if t == 2 else 0)
                answer = session.push({"frames": x[:, t : t + 1]}) if t == 3 else session.push_events(packet)  # one frame between packets
                np.testing.assert_array_equal(answer["logits"][:, 0], expected["logits"][:, t], err_msg=f"step {t} {name}")
        for n, v in expected.items():
            np.testing.assert_array_equal(got[n], v)


def events_of(frame: np.ndarray, extra: int = 0) -> np.ndarray:
    """Places in any order, each as often as it counts; `extra` more of the fullest, which the frame's byte does not hold."""
    places = np.repeat(np.arange(frame.size), frame.ravel())
    places = np.concatenate([places, np.full(extra, frame.argmax())])
    return np.random.default_rng(0).permutation(places).astype(np.uint32)


def test_events_that_do_not_fit_are_refused_and_the_stream_goes_on(tmp_path: Path):
    bundle = exported(stepped("pooled", 1), tmp_path / "b", streams=True)
    with registry.find(Runtime, "spike").open(bundle) as session:
        with pytest.raises(EdgekitError, match="event 1 is at place 144, the input has 144"):
            session.push_events(np.array([0, 144]))
        for wrong, says in ((np.array([-1]), "found -1 to -1"), (np.array([0.5]), "whole numbers"), (np.array([[1]]), r"int64 \[1, 1\]")):
            with pytest.raises(EdgekitError, match=says):
                session.push_events(wrong)
        assert session.push_events(np.array([], np.uint32))["logits"].shape == (1, 1, 10)
    loop = exported(stepped("pooled", 1), tmp_path / "loop")
    with registry.find(Runtime, "spike").open(loop) as session, pytest.raises(EdgekitError, match="is no stream of single frames"):
        session.push_events(np.array([0]))
    centred = stepped("pooled", 1)
    centred = dataclasses.replace(centred, net=dataclasses.replace(centred.net, input_offset=8, input_range=(-8, 8)))
    bundle = exported(centred, tmp_path / "centred", streams=True)
    with registry.find(Runtime, "spike").open(bundle) as session, pytest.raises(EdgekitError, match="its image is centred"):
        session.push_events(np.array([0]))


def test_a_profile_takes_packets_in_turn_and_says_how_many_events_a_second(tmp_path: Path):
    bundle = exported(stepped("pooled", 1), tmp_path / "b", streams=True)
    examine.verify(bundle, "spike")
    found = examine.profile(bundle, Request("spike", seconds=0.2, processes=1))
    assert found.load.different_inputs == 4 * STEPS
    assert found.load.events_per_query == pytest.approx(float(frames(4).sum()) / (4 * STEPS))
    assert found.load.events_per_s and found.load.events_per_s > found.load.events_per_query / (found.latency_p90_ms or 0) * 500
    assert not any("times the minimum" in reason for reason in found.reasons)


def test_layers_say_which_way_they_went_and_what_was_done(tmp_path: Path):
    bundle = exported(stepped("pooled", 1), tmp_path / "b", streams=True)
    found = profile_layers(bundle, "spike", 1)
    assert [layer.name for layer in found.layers] == ["a", "b", "readout"] and found.layers[0].kernel == "events"
    assert found.layers[0].operator.endswith("of 144 inputs") and found.layers[0].operations is not None
    # 0.4 events a place, each meets at most 9 x 8 weights
    assert 0.2 * 144 * 72 < found.layers[0].operations < 0.6 * 144 * 72
    assert sum(layer.share for layer in found.layers) == pytest.approx(1)


@pytest.mark.parametrize("processor", ["a53", "a76"])
def test_emulated_arm_processors_step_alike(tmp_path: Path, processor: str):
    runtime = f"cpp_aarch64_{processor}"
    if reason := registry.load(Runtime, runtime).ready():
        pytest.skip(reason)
    for kind, seed in (("pooled", 0), ("residual", 6)):
        made = stepped(kind, seed)
        expected = stepped_net.simulate(made, images(10, seed), STEPS)
        with registry.find(Runtime, runtime).open(exported(made, tmp_path / kind), probes=True) as session:
            got = session.run({"image": images(10, seed)})
        for n, v in expected.items():
            np.testing.assert_array_equal(got[n], v, err_msg=f"{n} {kind}")


def test_operations_of_several_steps_are_priced_by_their_spikes(small_run: Path, tmp_path: Path):
    trained = flow.load_trained(small_run / "train" / "t4")
    bundle = flow.export(small_run / "train" / "t4", "spike", tmp_path / "b")
    found = examine.estimate(bundle, trained)
    spikes = sum(int(bundle.golden().exact[n].sum()) for n in trained.probes["main"])
    assert {e.operations["spikes"] for e in found} == {spikes} and {e.operations["steps"] for e in found} == {4}


def test_membranes_saturate_and_never_wrap():
    weight = np.full((1, 1, 1, 1), 127, np.int8)
    first = Population("a", (1, 1, 1), (Synapse(INPUT, "conv", weight),), np.array([-(1 << 27)], np.int32), 0)
    last = Population("readout", (1,), (Synapse("a", "dense", np.ones((1, 1), np.int8)),), np.zeros(1, np.int32), None)
    made = SteppedNet(SpikingNet((1, 1, 1), 0, 1.0, (0, 255), (first, last), 1.0), {"a": Neuron(np.array([10], np.int32))})
    made.check()
    state = stepped_net.State(made, 1)
    for _ in range(6):
        state.step(np.zeros((1, 1, 1, 1), np.uint8))
    assert state.membranes["a"] == -MEMBRANE


def test_a_file_says_what_it_holds(tmp_path: Path):
    made = stepped("residual", 0)
    stepped_net.save(made, tmp_path / "n.safetensors")
    again = stepped_net.load(tmp_path / "n.safetensors")
    assert {n: (v.leak, v.reset, v.threshold.tolist()) for n, v in again.neurons.items()} == {
        n: (v.leak, v.reset, v.threshold.tolist()) for n, v in made.neurons.items()
    }
    with pytest.raises(Broken, match="its neurons have membranes"):
        spiking_net.load(tmp_path / "n.safetensors")
    with pytest.raises(EdgekitError, match=f"its leak is 4097, of -{LEAK_ONE}"):
        SteppedNet(made.net, made.neurons | {"a": Neuron(made.neurons["a"].threshold, 4097)}).check()


def test_a_trained_network_of_four_steps_keeps_its_score(small_run: Path, tmp_path: Path):
    bundle = flow.export(small_run / "train" / "t4", "spike", tmp_path / "b")
    found = examine.verify(bundle, "spike")
    assert found.passed and found.exact_mismatches == 0, found.failures
    assert found.score is not None and found.score_reference is not None and found.score >= found.score_reference - 0.02
    assert examine.verify(bundle, "cpp", 0).exact_mismatches == 0
