"""Spike-exact INT8: random networks and a trained one, against the numpy integer reference, at zero tolerance."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from random_nets import Random, images, network

from edgekit import examine, flow, integer_net, registry, spiking_net
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Exporter, Runtime
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse

KINDS = ("dense", "pooled", "strided", "residual")
ENGINES = ("onnxruntime", "openvino")


def exported(net: SpikingNet, out: Path) -> Bundle:
    return registry.find(Exporter, "spike_int8").export(Random(net), out, {})


def wrong_integers(bundle: Bundle, engine: str, pixels: np.ndarray) -> int:
    expected = spiking_net.simulate(spiking_net.load(bundle.folder / "integer_net.safetensors"), pixels)
    with registry.find(Runtime, engine).open(bundle, probes=True) as session:
        got = session.run({"image": pixels})
    assert set(expected) <= set(got)
    return sum(int((got[n].astype(np.float64) != v.astype(np.float64)).sum()) for n, v in expected.items())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("engine", ENGINES)
def test_every_spike_and_logit_is_the_integer_reference(tmp_path: Path, kind: str, engine: str):
    for seed in range(3):
        bundle = exported(network(kind, seed), tmp_path / f"{kind}{seed}")
        assert wrong_integers(bundle, engine, images(200, seed)) == 0
        assert examine.verify(bundle, engine, 0).exact_mismatches == 0


@pytest.mark.parametrize("kind", KINDS)
def test_processors_without_vnni_give_the_same_integers(tmp_path: Path, kind: str):
    """vpmaddubsw saturates in 16 bits; oneDNN is told that the newer instructions are not there."""
    bundle = exported(network(kind), tmp_path / "b")
    command = [sys.executable, "-m", "edgekit", "verify", str(bundle.folder), "--runtime", "openvino", "--json"]
    for isa in ("AVX2", "AVX512_CORE", "SSE41"):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "ONEDNN_MAX_CPU_ISA": isa})
        assert json.loads(done.stdout)["exact_mismatches"] == 0, (isa, done.stderr)


def test_a_trained_network_keeps_its_score(small_run: Path, tmp_path: Path):
    bundle = flow.export(small_run, "onnx-spike:int8", tmp_path / "b")
    for engine in ENGINES:
        found = examine.verify(bundle, engine)
        assert found.passed and found.exact_mismatches == 0, found.failures
        assert found.score is not None and found.score_reference is not None and found.score >= found.score_reference - 0.02
    vino = flow.export(bundle.folder, "openvino", tmp_path / "v")
    assert vino.label == "openvino-spike:int8" and examine.verify(vino).exact_mismatches == 0


def test_hidden_layers_are_integer_kernels(small_run: Path, tmp_path: Path):
    """What ONNX Runtime executes, not what the file says: QLinearConv, no float convolution but the first."""
    import onnxruntime as ort

    bundle = flow.export(small_run, "onnx-spike:int8", tmp_path / "b")
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "seen.onnx"), 4
    ort.InferenceSession(str(bundle.graph()), options, providers=["CPUExecutionProvider"])
    kinds = [n.op_type for n in onnx.load(tmp_path / "seen.onnx").graph.node]
    convolutions = [k for k in kinds if k in ("Conv", "FusedConv")]
    assert len(convolutions) == 1 and kinds.count("QLinearConv") >= 2, kinds
    assert bundle.manifest.details["integer_layers"] == [n for n in bundle.manifest.probes if n != "conv1"] + ["readout"]


def test_weights_are_scaled_by_channel_and_thresholds_lie_in_the_bias():
    net = network("pooled")
    made = integer_net.quantise_per_channel(net)
    for p, q in zip(net.populations, made.populations, strict=True):
        assert all(s.weight.dtype == np.int8 for s in q.synapses) and q.threshold in (0, None)
        if p.spiking:
            assert all(np.abs(s.weight.reshape(len(s.weight), -1)).max(1).min() == 127 for s in q.synapses)
    float_spikes, int_spikes = (spiking_net.simulate(n, images(200))["a"] for n in (net, made))
    assert (float_spikes != int_spikes).mean() < 0.02  # the first layer differs by rounding alone


def test_what_would_not_be_exact_is_refused(tmp_path: Path):
    """Sums over 144 spikes times 127, two of them in 16 bits, saturate on processors without VNNI."""
    rng = np.random.default_rng(0)
    first = Synapse(INPUT, "conv", rng.normal(size=(2, 1, 1, 1)).astype(np.float32))
    pooled = Synapse("a", "conv", rng.normal(size=(3, 2, 1, 1)).astype(np.float32), pool=(12, 12))
    readout = Synapse("b", "dense", rng.normal(size=(10, 3)).astype(np.float32))
    populations = (
        Population("a", (2, 12, 12), (first,), np.zeros(2, np.float32), 0.1),
        Population("b", (3, 1, 1), (pooled,), np.zeros(3, np.float32), 0.1),
        Population("readout", (10,), (readout,), np.zeros(10, np.float32), None),
    )
    with pytest.raises(EdgekitError, match="layer 'b': sums over 12 x 12 windows do not stay exact"):
        exported(SpikingNet((1, 12, 12), 8, 1 / 8, (-8, 8), populations, 1.0), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_a_network_of_several_steps_is_refused_in_one_sentence(small_run: Path, tmp_path: Path):
    with pytest.raises(EdgekitError, match="4 timesteps"):
        flow.export(small_run / "train" / "t4", "onnx-spike:int8", tmp_path / "b")
