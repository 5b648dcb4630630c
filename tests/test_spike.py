"""The spike engine against the numpy integer reference at zero tolerance: every table of kernels, by events and as products, emulated processors, and lying files."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from random_nets import Random, images, network

from edgekit import examine, files, flow, registry, spiking_net
from edgekit.bundle import Bundle, Golden
from edgekit.errors import EdgekitError
from edgekit.layers import profile_layers
from edgekit.parts import Exporter, Runtime
from edgekit.process_run import Request
from edgekit.runtimes import _cpp_build, cpp
from edgekit.signature import Signature, Tensor
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse, synapse_shape

KINDS = ("dense", "pooled", "strided", "residual")


@pytest.fixture(autouse=True)
def ready(monkeypatch: pytest.MonkeyPatch) -> None:
    reason = registry.load(Runtime, "spike").ready()
    if reason:
        pytest.skip(reason)
    for name in ("EDGEKIT_SPIKE_KERNELS", "EDGEKIT_SPIKE_WAY"):
        monkeypatch.delenv(name, raising=False)


def exported(net: SpikingNet, out: Path) -> Bundle:
    return registry.find(Exporter, "spike").export(Random(net), out, {})


def wrong_integers(bundle: Bundle, pixels: np.ndarray, runtime: str = "spike") -> int:
    expected = spiking_net.simulate(spiking_net.load(bundle.graph()), pixels)
    with registry.find(Runtime, runtime).open(bundle, probes=True) as session:
        got = session.run({"image": pixels})
    assert set(expected) == set(got) and all(got[n].shape == v.shape for n, v in expected.items())
    return sum(int((got[n].astype(np.float64) != v.astype(np.float64)).sum()) for n, v in expected.items())


def kernels(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What this processor runs, as the engine says it."""
    monkeypatch.setenv("EDGEKIT_SPIKE_KERNELS", "none")
    with pytest.raises(EdgekitError, match="this processor runs: .*portable") as said, registry.find(Runtime, "spike").open(bundle):
        pass
    return re.split(r",\s*", str(said.value).partition("runs: ")[2])


def wide(seed: int) -> SpikingNet:
    """Colour images of 20x20, 96 to 130 channels, pooling, strides, a dense layer: several blocks of every kind of kernel."""
    rng = np.random.default_rng(seed)
    shape, layers = (3, 20, 20), []
    plan = ((96, (3, 3), (1, 1), (1, 1), (1, 1)), (130, (3, 3), (1, 1), (1, 1), (2, 2)), (64, (3, 3), (2, 2), (1, 1), (1, 1)))
    for i, (out, kernel, stride, padding, pool) in enumerate(plan):
        source = layers[-1].name if layers else INPUT
        ins = (layers[-1].shape if layers else shape)[0]
        weight = rng.normal(size=(out, ins, *kernel)).astype(np.float32)
        synapse = Synapse(source, "conv", weight, stride, padding, pool=pool)
        made = synapse_shape(synapse, layers[-1].shape if layers else shape)
        spread = np.sqrt(weight[0].size) * (0.6 if source == INPUT else 0.4)
        layers.append(Population(f"c{i}", made, (synapse,), rng.normal(-spread, spread / 3, out).astype(np.float32), float(spread / 4)))
    dense = Synapse("c2", "dense", rng.normal(size=(200, int(np.prod(layers[-1].shape)))).astype(np.float32))
    layers.append(Population("d", (200,), (dense,), rng.normal(size=200).astype(np.float32), 8.0))
    layers.append(Population("readout", (10,), (Synapse("d", "dense", rng.normal(size=(10, 200)).astype(np.float32)),), np.zeros(10, np.float32), None))
    net = SpikingNet(shape, 0, 1 / 255, (0, 255), tuple(layers), 1.0)
    net.check()
    return net


class Colour(Random):
    """`wide`, whose images are of another shape than random_nets.images."""

    def goldens(self) -> list[Golden]:  # noqa: D102
        found = spiking_net.simulate(self.net, colours(4))
        return [Golden({"image": colours(4)}, {"logits": found.pop("logits")}, found, {})]


def colours(n: int, seed: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 20, 20)).astype(np.uint8)


@pytest.mark.parametrize("way", ["", "events", "dense"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_spike_and_logit_is_the_integer_reference(tmp_path: Path, kind: str, way: str, monkeypatch: pytest.MonkeyPatch):
    for seed in range(3):
        bundle = exported(network(kind, seed), tmp_path / f"{kind}{seed}")
        for name in kernels(bundle, monkeypatch):
            monkeypatch.setenv("EDGEKIT_SPIKE_KERNELS", name)
            monkeypatch.setenv("EDGEKIT_SPIKE_WAY", way)
            assert wrong_integers(bundle, images(100, seed)) == 0, (name, way)


def test_layers_of_many_channels_are_exact_with_every_table_of_kernels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    net = wide(0)
    rates = [float(v.mean()) for k, v in spiking_net.simulate(net, colours(4)).items() if k != "logits"]
    assert all(0.01 < rate < 0.99 for rate in rates), f"a layer that is silent or full shows nothing: {rates}"

    bundle = registry.find(Exporter, "spike").export(Colour(net), tmp_path / "b", {})
    for name in kernels(bundle, monkeypatch):
        monkeypatch.setenv("EDGEKIT_SPIKE_KERNELS", name)
        for way in ("", "events", "dense"):
            monkeypatch.setenv("EDGEKIT_SPIKE_WAY", way)
            assert wrong_integers(bundle, colours(5)) == 0, (name, way)


def test_a_trained_network_keeps_its_score_and_is_verified_on_every_runtime(small_run: Path, tmp_path: Path):
    bundle = flow.export(small_run, "spike", tmp_path / "b")
    found = examine.verify(bundle, "spike")
    assert found.passed and found.exact_mismatches == 0, found.failures
    assert found.score is not None and found.score_reference is not None and found.score >= found.score_reference - 0.02
    again = flow.export(small_run, "onnx-spike:int8", tmp_path / "onnx")
    for name, array in files.load_tensors(again.folder / "integer_net.safetensors").items():
        np.testing.assert_array_equal(array, files.load_tensors(bundle.graph())[name])
    assert examine.verify(bundle, "cpp", 0).exact_mismatches == 0
    # The runner, too, times golden images in turn, not one again and again.
    timed = examine.profile(bundle, Request("cpp", seconds=0.1, processes=1))
    assert timed.load.different_inputs == len(bundle.golden().inputs["image"]) > 1
    # Of the nine taps under a 3x3 kernel, those in the padding are no work: 3 n - 2 are left of 3 n along each axis.
    first = spiking_net.load(bundle.graph()).populations[0]
    channels, height, width = first.shape
    layer = profile_layers(bundle, "spike", 1).layers[0]
    assert layer.kernel == "dense" and layer.operations == 2 * channels * (3 * height - 2) * (3 * width - 2)


@pytest.mark.parametrize("processor", ["a53", "a76"])
def test_emulated_arm_processors_give_the_same_integers(tmp_path: Path, processor: str):
    """The A53 has no dot product instructions, the A76 has."""
    runtime = f"cpp_aarch64_{processor}"
    if reason := registry.load(Runtime, runtime).ready():
        pytest.skip(reason)
    for kind in KINDS:
        assert wrong_integers(exported(network(kind), tmp_path / kind), images(20), runtime) == 0


def test_an_emulated_haswell_gives_the_same_integers(tmp_path: Path):
    """It has AVX2 and no product of bytes that does not saturate."""
    emulator = shutil.which("qemu-x86_64")
    if emulator is None:
        pytest.skip("no qemu-x86_64 here")
    bundle = exported(network("pooled"), tmp_path / "b")
    command = [emulator, "-cpu", "Haswell", str(_cpp_build.runner(cpp.NATIVE)), str(bundle.folder), "--golden"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["passed"] and "avx2" in said["engine"]


def test_what_the_engine_cannot_hold_is_refused_with_the_layer(tmp_path: Path):
    net = network("dense")
    trained = Random(net)
    trained.signature = Signature((Tensor("image", "float32", ("batch", *net.input_shape)),), trained.signature.outputs)
    with pytest.raises(EdgekitError, match="reads images of bytes, but 'image' is float32"):
        registry.find(Exporter, "spike").export(trained, tmp_path / "b", {})
    with pytest.raises(EdgekitError, match="subtracts 0 to 255"):
        exported(dataclasses.replace(net, input_offset=-3), tmp_path / "b")
    large = dataclasses.replace(net.populations[0], shape=(1 << 27,))
    with pytest.raises(EdgekitError, match="makes 1342177.. values in this network; the spike engine holds 67108864"):
        sys.modules[type(registry.find(Exporter, "spike")).__module__].check(dataclasses.replace(net, populations=(large, *net.populations[1:])))
    assert not (tmp_path / "b").exists()


def test_a_runner_says_which_engine_opens_what(tmp_path: Path, small_run: Path):
    bundle = exported(network("dense"), tmp_path / "b")
    runner = str(_cpp_build.runner(cpp.NATIVE))
    done = subprocess.run([runner, str(bundle.folder), "--engine", "onnxruntime", "--golden"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "is a bundle of format spike, which onnxruntime does not open here" in done.stderr


def test_a_session_is_timed_without_numpy_and_takes_any_batch(tmp_path: Path):
    bundle = exported(network("pooled"), tmp_path / "b")
    with registry.find(Runtime, "spike").open(bundle) as session:
        assert session.run({"image": images(0)})["logits"].shape == (0, 10)
        once = session.bind({"image": images(3)})
        once()
        np.testing.assert_array_equal(session.run({"image": images(3)})["logits"], session.run({"image": images(120)})["logits"][:3])
        with pytest.raises(EdgekitError, match="image"):
            session.run({"image": images(3)[:, :1]})


def test_bound_runs_read_their_own_arrays_whatever_came_between(tmp_path: Path):
    bundle = exported(network("pooled", 5), tmp_path / "b")
    one, three = images(1), images(3)
    with registry.find(Runtime, "spike").open(bundle) as session:
        expected = [session.run({"image": x})["logits"].copy() for x in (one, three, three[1:2])]
        once, thrice = session.bind({"image": one}), session.bind({"image": three})
        for call, wanted in ((once, expected[0]), (thrice, expected[1]), (once, expected[0])):
            call()
            np.testing.assert_array_equal(session._answers()["logits"], wanted)  # type: ignore[attr-defined]
        one[:] = three[1:2]
        once()
        np.testing.assert_array_equal(session._answers()["logits"], expected[2])  # type: ignore[attr-defined]
