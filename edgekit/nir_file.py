"""A one-timestep spiking network as a NIR file and back: the portable subset that other simulators read alike.

NIR describes neurons in continuous time: IF is  dv/dt = r * I,  a spike where v > v_threshold, then v = v_reset. One
explicit Euler step of length dt from v = 0 with r = 1/dt gives v = I, so o = 1[I > v_threshold]: the network at T=1.
The file has no dt, no bit widths and no input scaling; these stand in its metadata under `edgekit`, as JSON.
Integer networks are written with half-integer thresholds, so that > and >= agree.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import limits
from edgekit.errors import Broken, EdgekitError
from edgekit.plain_text import shown
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse, synapse_shape

DT_S = 1e-3  # any value gives the same answers, since r = 1/dt; norse's own default
OUTPUT = "output"
MOST_OBJECTS, MOST_DEPTH = 100_000, 16  # of HDF5; a network has five a node, and they lie three deep
_KNOWN = ("Input", "Output", "Conv2d", "Affine", "Linear", "Flatten", "SumPool2d", "AvgPool2d", "IF", "LIF")


def write(net: SpikingNet, path: Path) -> None:
    """Write the network; read back, it is the same to the last bit, else EdgekitError."""
    import nir

    net.check()
    nodes: dict[str, Any] = {INPUT: nir.Input(input_type={"input": np.array(net.input_shape)})}
    edges: list[tuple[str, str]] = []
    for p in net.populations:
        target = p.name if p.spiking else OUTPUT
        for i, s in enumerate(p.synapses):
            bias = p.bias if i == 0 else np.zeros_like(p.bias)
            _write_synapse(nodes, edges, net, (p.name, i), s, bias, target)
        if p.threshold is None:
            nodes[OUTPUT] = nir.Output(output_type={"output": np.array(p.shape)})
        else:
            level = p.threshold + 0.5 if net.integer else p.threshold
            fill = np.full(p.shape, level, np.float64 if not net.integer else np.float32)
            nodes[p.name] = nir.IF(r=np.full(p.shape, 1 / DT_S), v_threshold=fill, v_reset=np.zeros(p.shape))
    facts = {
        "dt_s": DT_S,
        "steps": 1,
        "integer": net.integer,
        "input_offset": net.input_offset,
        "input_scale": 1.0 if net.integer else net.input_scale,
        "pixel_scale": net.input_scale,
        "input_range": list(net.input_range),
        "readout": net.populations[-1].name,
        "readout_scale": net.readout_scale,
        "input": "(image - input_offset) * input_scale",
        "logits": "output * readout_scale",
    }
    metadata = {"edgekit": json.dumps(facts, sort_keys=True)}
    # nir 1.0.8 checks a Conv2d by its kernel height alone and knows no groups: its check would refuse what is right.
    whole = io.BytesIO()  # HDF5 itself ends the process, by SIGSEGV, where the disk is full
    nir.write(whole, nir.NIRGraph(nodes, edges, metadata, type_check=False))
    path.write_bytes(whole.getvalue())
    _compare(net, read(path), path)


def _write_synapse(
    nodes: dict[str, Any], edges: list[tuple[str, str]], net: SpikingNet, place: tuple[str, int], s: Synapse,
    bias: np.ndarray, target: str,
) -> None:  # fmt: skip
    """Pooling, flattening and weights between the source and the target neurons."""
    import nir

    name, i = place
    at, source = s.source, net.shape_of(s.source)
    chain: list[tuple[str, Any]] = []
    if s.pool != (1, 1):
        window = np.array(s.pool)
        chain.append((f"{name}_{i}_pool", nir.SumPool2d(kernel_size=window, stride=window, padding=np.array((0, 0)))))
        source = (source[0], source[1] // s.pool[0], source[2] // s.pool[1])
    weight, shift = s.weight.astype(np.float32), bias.astype(np.float32)
    if s.kind == "conv":
        conv = nir.Conv2d(
            input_shape=(source[1], source[2]), weight=weight, stride=s.stride, padding=s.padding, dilation=s.dilation,
            groups=s.groups, bias=shift,
        )  # fmt: skip
        chain.append((f"{name}_{i}_weight", conv))
    else:
        if len(source) > 1:
            chain.append(
                (f"{name}_{i}_flatten", nir.Flatten(input_type={"input": np.array(source)}, start_dim=0, end_dim=-1))
            )
        chain.append((f"{name}_{i}_weight", nir.Affine(weight=weight, bias=shift)))
    for node_name, node in chain:
        nodes[node_name] = node
        edges.append((at, node_name))
        at = node_name
    edges.append((at, target))


def read(path: Path) -> SpikingNet:
    """Read a NIR file that means a one-timestep network; Broken or EdgekitError, naming the node, when it does not.

    Files of other frameworks are taken as far as their nodes are Input, Output, Conv2d, Affine, Linear, Flatten,
    SumPool2d, AvgPool2d, IF or LIF without leak towards another level. Their input is used as it is.
    """
    import nir

    try:
        _look_through(path)
        graph = nir.read(path, type_check=False)
        metadata = dict(graph.metadata or {}).get("edgekit", "{}")
        facts = json.loads(metadata.decode() if isinstance(metadata, bytes) else str(metadata))
    except EdgekitError:
        raise
    except Exception as error:  # h5py and nir raise many kinds for a file that is not theirs
        raise Broken(f"{path}: not a NIR file ({type(error).__name__}: {error})") from None
    for name, node in graph.nodes.items():
        if type(node).__name__ not in _KNOWN:
            raise EdgekitError(
                f"{path}: node '{name}' is a {type(node).__name__}; a one-timestep network is made of: {', '.join(_KNOWN)}"
            )
    try:
        net = _Reader(graph, facts, path).net()
        net.check()
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError, StopIteration, RecursionError) as error:  # of odd values
        raise Broken(f"{path}: its nodes and edges do not fit together ({type(error).__name__}: {shown(error)})") from None
    return net


def _look_through(path: Path) -> None:
    """Raise Broken for what HDF5 can say and a network never does: data in other files, links, more values than a model has."""
    import h5py

    objects = size = 0
    with h5py.File(path, "r") as file:
        pending = [(file["/"], 1)]
        while pending:
            group, depth = pending.pop()
            for name in group:
                objects += 1
                if objects > MOST_OBJECTS or depth > MOST_DEPTH:
                    raise Broken(f"{path}: more than {MOST_OBJECTS:,} objects, or groups more than {MOST_DEPTH} deep: this is no network")
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise Broken(f"{path}: '{shown(name)}' is a link to elsewhere, which is not followed")
                item = group[name]
                if isinstance(item, h5py.Group):
                    pending.append((item, depth + 1))
                elif isinstance(item, h5py.Dataset):
                    if item.external or item.is_virtual:
                        raise Broken(f"{path}: the data of '{shown(name)}' lie in another file, which is not opened")
                    size += item.nbytes
                    if size > limits.MOST_MODEL_BYTES:
                        raise Broken(f"{path}: its arrays take {size:,} bytes or more, {limits.MOST_MODEL_BYTES:,} are taken")


class _Reader:
    """Walks the edges backwards from each group of neurons to its sources."""

    def __init__(self, graph: Any, facts: Mapping[str, Any], path: Path) -> None:
        self.nodes, self.facts, self.path = graph.nodes, facts, path
        self.before: dict[str, list[str]] = {}
        for source, target in graph.edges:
            self.before.setdefault(target, []).append(source)
        self.integer = bool(facts.get("integer", False))
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.seen = set[str]()  # by _visit: a node that many ways lead to is walked once

    def net(self) -> SpikingNet:
        inputs, outputs = self._only("Input"), self._only("Output")
        shape = tuple(int(n) for n in np.atleast_1d(next(iter(self.nodes[inputs].input_type.values()))))
        self.shapes[inputs] = shape
        order: list[str] = []
        self._visit(outputs, [], order)
        populations = tuple(self._population(name, inputs) for name in order)
        low, high = self.facts.get("input_range", (0, 1))
        scale = float(self.facts.get("pixel_scale", 1.0))
        return SpikingNet(
            shape,
            int(self.facts.get("input_offset", 0)),
            scale,
            (low, high),
            populations,
            float(self.facts.get("readout_scale", 1.0)),
        )

    def _only(self, kind: str) -> str:
        found = [n for n, node in self.nodes.items() if type(node).__name__ == kind]
        if len(found) != 1:
            raise EdgekitError(f"{self.path}: has {len(found)} nodes of type {kind}, one is needed")
        return str(found[0])

    def _is_neuron(self, name: str) -> bool:
        return type(self.nodes[name]).__name__ in ("IF", "LIF", "Output")

    def _visit(self, name: str, trail: list[str], order: list[str]) -> None:
        """Sources before their listeners; a loop is refused."""
        if name in trail:
            raise EdgekitError(
                f"{self.path}: node '{name}' feeds back into itself; at one timestep there is no recurrence"
            )
        if name in self.seen or type(self.nodes[name]).__name__ == "Input":
            return
        for source in self.before.get(name, []):
            self._visit(source, [*trail, name], order)
        self.seen.add(name)
        if self._is_neuron(name):
            order.append(name)

    def _population(self, name: str, inputs: str) -> Population:
        node = self.nodes[name]
        kind = type(node).__name__
        synapses, biases = zip(*(self._synapse(b, name, inputs) for b in self._sorted_sources(name)), strict=True)
        threshold = None if kind == "Output" else self._threshold(name, node)
        shape = synapse_shape(synapses[0], self.shapes[synapses[0].source if synapses[0].source != INPUT else inputs])
        self.shapes[name] = shape
        bias = np.sum(biases, axis=0).astype(np.int32 if self.integer else np.float32)
        label = str(self.facts.get("readout", "readout")) if kind == "Output" else name
        return Population(label, shape, synapses, np.broadcast_to(bias, shape[:1]).copy(), threshold)

    def _sorted_sources(self, name: str) -> list[str]:
        sources = sorted(self.before.get(name, []))
        if not sources:
            raise EdgekitError(f"{self.path}: nothing leads to node '{name}'")
        return sources

    def _synapse(self, at: str, target: str, inputs: str) -> tuple[Synapse, np.ndarray]:
        """Back from the neurons over weights, flattening and pooling to the source."""
        weights = self.nodes[at]
        kind = type(weights).__name__
        if kind not in ("Conv2d", "Affine", "Linear"):
            raise EdgekitError(
                f"{self.path}: node '{target}' needs weights (Conv2d, Affine or Linear) before it, found '{at}' ({kind})"
            )
        pool, factor = (1, 1), 1.0
        at = self._one_before(at)
        while not (self._is_neuron(at) or at == inputs):
            node, what = self.nodes[at], type(self.nodes[at]).__name__
            if what in ("SumPool2d", "AvgPool2d"):
                pool = self._pool(at, node, pool)
                factor = 1 / (pool[0] * pool[1]) if what == "AvgPool2d" else 1.0
            elif what != "Flatten":
                raise EdgekitError(
                    f"{self.path}: node '{at}' ({what}) stands between neurons and weights, where only pooling may"
                )
            at = self._one_before(at)
        w = np.asarray(weights.weight, np.float32) * np.float32(factor)
        w = self._whole(w, np.int8, target) if self.integer else w
        bias = np.asarray(getattr(weights, "bias", np.zeros(w.shape[0])))
        bias = self._whole(bias, np.int32, target) if self.integer else bias.astype(np.float32)
        source = INPUT if at == inputs else at
        if kind != "Conv2d":
            return Synapse(source, "dense", w, pool=pool), bias
        if isinstance(weights.padding, str):
            raise EdgekitError(f"{self.path}: '{target}' pads by '{weights.padding}'; give the padding in numbers")
        stride, padding, dilation = (_pair(v) for v in (weights.stride, weights.padding, weights.dilation))
        return Synapse(source, "conv", w, stride, padding, dilation, int(weights.groups), pool), bias

    def _pool(self, name: str, node: Any, before: tuple[int, int]) -> tuple[int, int]:
        window, stride, padding = (_pair(v) for v in (node.kernel_size, node.stride, node.padding))
        if window != stride or padding != (0, 0) or before != (1, 1):
            raise EdgekitError(
                f"{self.path}: pooling '{name}' has window {window}, stride {stride}, padding {padding}; only side by side windows, once, fit"
            )
        return window

    def _threshold(self, name: str, node: Any) -> float | int:
        values = np.unique(np.asarray(node.v_threshold, np.float64))
        if len(values) != 1:
            raise EdgekitError(
                f"{self.path}: node '{name}' has {len(values)} thresholds; one for the whole node is needed"
            )
        if type(node).__name__ == "LIF" and np.any(np.asarray(node.v_leak) != 0):
            raise EdgekitError(
                f"{self.path}: node '{name}' leaks towards {np.unique(node.v_leak)}, which one timestep from rest does not mean"
            )
        return int(np.floor(values[0])) if self.integer else float(values[0])

    def _one_before(self, name: str) -> str:
        sources = self.before.get(name, [])
        if len(sources) != 1:
            raise EdgekitError(f"{self.path}: node '{name}' has {len(sources)} inputs, one is needed")
        return sources[0]

    def _whole(self, values: np.ndarray, dtype: Any, where: str) -> np.ndarray:
        whole: np.ndarray = np.rint(values).astype(dtype)
        if np.any(whole != values):
            raise Broken(f"{self.path}: says that it holds integers, but weights into '{where}' are not")
        return whole


def _pair(value: Any) -> tuple[int, int]:
    two = np.broadcast_to(np.asarray(value), (2,))
    return int(two[0]), int(two[1])


def _compare(net: SpikingNet, back: SpikingNet, path: Path) -> None:
    """What was read back must be what was written, every array and number of it."""
    same = [p.name for p in net.populations] == [p.name for p in back.populations]
    for p, q in zip(net.populations, back.populations, strict=False):
        same &= p.threshold == q.threshold and p.shape == q.shape and np.array_equal(p.bias, q.bias)
        for s, r in zip(p.synapses, q.synapses, strict=False):
            same &= np.array_equal(s.weight, r.weight) and (s.source, s.pool, s.groups) == (r.source, r.pool, r.groups)
            same &= (s.kind, s.stride, s.padding, s.dilation) == (r.kind, r.stride, r.padding, r.dilation)
    if not same:
        raise EdgekitError(
            f"{path}: what the file says is not the network that was written: a defect in edgekit or in nir"
        )
