"""NIR files: read back to the bit, and run by norse, a simulator that nobody here wrote."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import random_nets

from edgekit import nir_file
from edgekit.errors import Broken, EdgekitError
from edgekit.integer_net import quantise
from edgekit.spiking_net import SpikingNet, simulate

KINDS = ["dense", "pooled", "strided", "residual"]


def by_norse(oracle: Callable[[str], ModuleType], path: Path, k: np.ndarray) -> dict[str, np.ndarray]:
    """Every neuron group's spikes and the read-out, one unbatched image after another (norse's Flatten knows no batch)."""
    import nir
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        norse = oracle("norse")
        model = norse.torch.from_nir(nir.read(path, type_check=False), dt=nir_file.DT_S)
        seen: dict[str, list[np.ndarray]] = {}

        def watch(name: str) -> Callable[..., None]:
            def hook(_: Any, __: Any, out: Any) -> None:
                seen.setdefault(name, []).append((out[0] if isinstance(out, tuple) else out).detach().numpy().copy())

            return hook

        for name, module in model.named_modules():
            if type(module).__name__ in ("IAFCell", "LIFBoxCell", "LIFCell"):
                module.register_forward_hook(watch(name.rsplit(".", 1)[-1]))
        outs = []
        with torch.no_grad():
            for image in k:
                out = model(torch.tensor(image, dtype=torch.float32))
                outs.append((out[0] if isinstance(out, tuple) else out).numpy().reshape(-1))
        logging.disable(logging.NOTSET)
    return {"readout": np.stack(outs), **{n: np.stack(v) for n, v in seen.items()}}


# Not "residual": norse 1.1.0 gives a middle node's values for a graph in which two edges meet in one neuron.
@pytest.mark.parametrize("kind", ["dense", "pooled", "strided"])
def test_norse_gives_every_spike_and_every_read_out_of_the_integer_file(
    kind: str, oracle: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    net, image = quantise(random_nets.network(kind)), random_nets.images(120)
    nir_file.write(net, tmp_path / "n.nir")
    theirs = by_norse(oracle, tmp_path / "n.nir", image.astype(np.int64) - net.input_offset)
    ours = simulate(net, image)
    assert np.array_equal(np.rint(theirs["readout"]), np.rint(ours["logits"].astype(np.float64) / net.readout_scale))
    spiking = [p.name for p in net.populations if p.spiking]
    assert set(spiking) <= set(theirs)
    for name in spiking:
        assert np.array_equal(theirs[name].reshape(ours[name].shape), ours[name])
        assert 0 < ours[name].mean() < 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("integer", [False, True])
def test_what_is_read_back_is_what_was_written(kind: str, integer: bool, tmp_path: Path) -> None:
    net: SpikingNet = random_nets.network(kind)
    net = quantise(net) if integer else net
    nir_file.write(net, tmp_path / "n.nir")
    back = nir_file.read(tmp_path / "n.nir")
    image = random_nets.images(40)
    ours, theirs = simulate(net, image), simulate(back, image)
    assert back.integer == integer
    assert all(np.array_equal(ours[k], theirs[k]) for k in ours)


def test_integer_thresholds_are_written_at_half_integers(tmp_path: Path) -> None:
    import nir

    nir_file.write(quantise(random_nets.network("dense")), tmp_path / "n.nir")
    threshold = np.unique(nir.read(tmp_path / "n.nir", type_check=False).nodes["a"].v_threshold)
    assert len(threshold) == 1 and float(threshold[0]) % 1 == 0.5


def test_a_file_that_is_no_nir_file_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "n.nir").write_bytes(b"garbage")
    with pytest.raises(Broken, match=r"n\.nir: not a NIR file"):
        nir_file.read(tmp_path / "n.nir")


def test_a_strangers_file_is_read_as_far_as_it_means_one_timestep(tmp_path: Path) -> None:
    import nir

    rng = np.random.default_rng(0)
    nodes = {
        "in": nir.Input(input_type={"input": np.array([12])}),
        "fc": nir.Affine(weight=rng.normal(size=(5, 12)).astype(np.float32), bias=np.zeros(5, np.float32)),
        "n": nir.IF(r=np.full(5, 1000.0), v_threshold=np.ones(5)),
        "out_fc": nir.Linear(weight=rng.normal(size=(3, 5)).astype(np.float32)),
        "out": nir.Output(output_type={"output": np.array([3])}),
    }
    edges = [("in", "fc"), ("fc", "n"), ("n", "out_fc"), ("out_fc", "out")]
    nir.write(tmp_path / "s.nir", nir.NIRGraph(nodes, edges, {}, type_check=False))
    net = nir_file.read(tmp_path / "s.nir")
    assert [p.name for p in net.populations] == ["n", "readout"]
    assert net.populations[0].threshold == 1.0


@pytest.mark.parametrize("node", ["CubaLIF", "Delay"])
def test_a_node_that_means_time_is_named(node: str, tmp_path: Path) -> None:
    import nir

    one = np.ones(4)
    strange = nir.Delay(delay=one) if node == "Delay" else nir.CubaLIF(tau_mem=one, tau_syn=one, r=one, v_leak=one, v_threshold=one)
    nodes = {"in": nir.Input(input_type={"input": np.array([4])}), "odd": strange, "out": nir.Output(output_type={"output": np.array([4])})}
    nir.write(tmp_path / "s.nir", nir.NIRGraph(nodes, [("in", "odd"), ("odd", "out")], {}, type_check=False))
    with pytest.raises(EdgekitError, match=f"'odd' is a {node}"):
        nir_file.read(tmp_path / "s.nir")
