"""A one-timestep spiking network as plain arrays: populations of threshold neurons joined by synapses.

Each population i computes its current  u_i = bias_i + sum over synapses of (W * pool(o_source))  and
  a spiking population emits   o_i = 1 if u_i > threshold_i else 0     (strict; no state at one timestep)
  the read-out population gives u_i * readout_scale                    (the logits).
The input is k = image - input_offset, an integer; a float network multiplies it by input_scale first.
Weights are float (`f32`) or integer (`int8`, see integer_net.py): the equations are the same.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from edgekit.errors import Broken, EdgekitError
from edgekit.files import load_tensors

INPUT = "input"
Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Synapse:
    """Weights from one population to another.

    dense: weight (out, in), the source flattened in C, H, W order. conv: weight (out, in/groups, kH, kW), as in
    torch.nn.Conv2d; stride, padding, dilation are (y, x). `pool` is the (y, x) window of a SUM pooling of the
    source before the weights (the 1/4 of an average pool lies in the weights); a last odd row or column is dropped.
    """

    source: str
    kind: Literal["dense", "conv"]
    weight: np.ndarray
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int] = (0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pool: tuple[int, int] = (1, 1)


@dataclass(frozen=True)
class Population:
    """Neurons of one layer. shape: (C, H, W) or (N,). bias: (C,) or (N,). threshold: scalar; None = read-out."""

    name: str
    shape: tuple[int, ...]
    synapses: tuple[Synapse, ...]
    bias: np.ndarray
    threshold: float | int | None

    @property
    def spiking(self) -> bool:
        """False for the read-out, whose currents are the answer."""
        return self.threshold is not None


@dataclass(frozen=True)
class SpikingNet:
    """Populations in an order in which each follows its sources; the last one is the read-out."""

    input_shape: tuple[int, ...]
    input_offset: int  # k = image - input_offset
    input_scale: float  # real input = k * input_scale
    input_range: tuple[int, int]  # smallest and largest k
    populations: tuple[Population, ...]
    readout_scale: float  # logits = read-out current * readout_scale

    @property
    def integer(self) -> bool:
        """True when all weights, biases and thresholds are integers."""
        return all(
            np.issubdtype(a.dtype, np.integer) for p in self.populations for a in (p.bias, *(s.weight for s in p.synapses))
        )

    def shape_of(self, source: str) -> tuple[int, ...]:
        """The shape of a population, or of the input."""
        if source == INPUT:
            return self.input_shape
        return next(p.shape for p in self.populations if p.name == source)

    def check(self) -> None:
        """Raise EdgekitError unless names, order and shapes fit together."""
        seen = {INPUT}
        for p in self.populations:
            for s in p.synapses:
                if s.source not in seen:
                    raise EdgekitError(f"population '{p.name}' listens to '{s.source}', which does not come before it")
                made = synapse_shape(s, self.shape_of(s.source))
                if made != p.shape:
                    raise EdgekitError(f"shape mismatch: {s.source} {self.shape_of(s.source)} gives {made}, but {p.name} is {p.shape}")
            if p.bias.shape != p.shape[:1]:
                raise EdgekitError(f"population '{p.name}' has {p.shape[0]} channels, but its bias has the shape {p.bias.shape}")
            seen.add(p.name)
        if [p.name for p in self.populations if not p.spiking] != [self.populations[-1].name]:
            raise EdgekitError("a spiking network needs exactly one read-out, its last population")


def simulate(net: SpikingNet, image: np.ndarray) -> dict[str, np.ndarray]:
    """Run a batch: image (N, *input_shape) of any real dtype -> spikes uint8 (N, *shape) per spiking population, and
    `logits` float32 (N, classes). Integer networks are computed exactly (every partial sum is below 2^53)."""
    k = image.astype(np.float64) - net.input_offset
    values = {INPUT: k if net.integer else k * net.input_scale}
    result: dict[str, np.ndarray] = {}
    for p in net.populations:
        u = current(p, values)
        if p.threshold is None:
            result["logits"] = (u * net.readout_scale).astype(np.float32).reshape(len(u), -1)
        else:
            values[p.name] = (u > p.threshold).astype(np.float64)
            result[p.name] = values[p.name].astype(np.uint8)
    return result


def current(p: Population, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """The current u of a population, float64 (N, *shape), from the outputs of its sources."""
    total: np.ndarray = sum(_transmit(s, values[s.source]) for s in p.synapses)  # type: ignore[assignment]
    bias = p.bias.astype(np.float64)
    return total + bias.reshape(1, -1, *[1] * (len(p.shape) - 1))


def synapse_shape(s: Synapse, source: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a synapse makes of a source's shape."""
    if s.pool != (1, 1):
        source = (source[0], source[1] // s.pool[0], source[2] // s.pool[1])
    if s.kind == "dense":
        if int(np.prod(source)) != s.weight.shape[1]:
            raise EdgekitError(f"a dense synapse from '{s.source}' takes {s.weight.shape[1]} values, but gets {int(np.prod(source))}")
        return (s.weight.shape[0],)
    out, ins, *kernel = s.weight.shape
    if len(source) != 3 or source[0] != ins * s.groups or out % s.groups:
        raise EdgekitError(f"a conv synapse from '{s.source}' {source} does not fit weights {s.weight.shape} in {s.groups} groups")
    size = [
        (n + 2 * pad - d * (k - 1) - 1) // st + 1
        for n, k, st, pad, d in zip(source[1:], kernel, s.stride, s.padding, s.dilation, strict=True)
    ]
    return (out, size[0], size[1])


def sum_pool(x: np.ndarray, pool: tuple[int, int]) -> np.ndarray:
    """Sums over windows: (N, C, H, W) -> (N, C, H // py, W // px)."""
    if pool == (1, 1):
        return x
    py, px = pool
    h, w = x.shape[2] // py, x.shape[3] // px
    summed: np.ndarray = x[:, :, : h * py, : w * px].reshape(*x.shape[:2], h, py, w, px).sum(axis=(3, 5))
    return summed


def _transmit(s: Synapse, x: np.ndarray) -> np.ndarray:
    x = sum_pool(x, s.pool)
    w = s.weight.astype(np.float64)
    if s.kind == "dense":
        dense: np.ndarray = x.reshape(len(x), -1) @ w.T
        return dense
    (sy, sx), (py, px), (dy, dx) = s.stride, s.padding, s.dilation
    x = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    kh, kw = w.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(x, (dy * (kh - 1) + 1, dx * (kw - 1) + 1), axis=(2, 3))
    windows = windows[:, :, ::sy, ::sx, ::dy, ::dx]  # (N, C, H', W', kH, kW)
    n, _, h, v = windows.shape[:4]
    per_in, per_out = w.shape[1], w.shape[0] // s.groups
    parts = []
    for g in range(s.groups):
        columns = windows[:, g * per_in : (g + 1) * per_in].transpose(0, 2, 3, 1, 4, 5).reshape(n * h * v, -1)
        parts.append((columns @ w[g * per_out : (g + 1) * per_out].reshape(per_out, -1).T).reshape(n, h, v, per_out))
    return np.concatenate(parts, axis=3).transpose(0, 3, 1, 2)


def save(net: SpikingNet, path: Path, neurons: Mapping[str, Mapping[str, Any]] | None = None, thresholds: Arrays | None = None) -> None:
    """Write the network as one safetensors file: arrays `<population>/bias`, `<population>/<i>/weight`, and the rest
    as JSON under the metadata key `spiking_net`. neurons, thresholds: what stepped_net.py adds, none at one timestep."""
    from safetensors.numpy import save_file

    arrays: dict[str, np.ndarray] = {f"{name}/threshold": np.ascontiguousarray(v) for name, v in (thresholds or {}).items()}
    populations = []
    for p in net.populations:
        arrays[f"{p.name}/bias"] = np.ascontiguousarray(p.bias)
        synapses = []
        for i, s in enumerate(p.synapses):
            arrays[f"{p.name}/{i}/weight"] = np.ascontiguousarray(s.weight)
            geometry = {k: list(getattr(s, k)) for k in ("stride", "padding", "dilation", "pool")}
            synapses.append({"source": s.source, "kind": s.kind, "groups": s.groups, **geometry})
        populations.append({"name": p.name, "shape": list(p.shape), "threshold": p.threshold, "synapses": synapses})
    head = {
        "input_shape": list(net.input_shape),
        "input_offset": net.input_offset,
        "input_scale": net.input_scale,
        "input_range": list(net.input_range),
        "readout_scale": net.readout_scale,
        "populations": populations,
        "neurons": dict(neurons or {}),
    }
    save_file(arrays, path, metadata={"spiking_net": json.dumps(head, sort_keys=True)})


def load(path: Path) -> SpikingNet:
    """Read a network of one timestep that save wrote; Broken, with the path, when it does not fit together."""
    net, neurons, _ = load_all(path)
    if neurons:
        raise Broken(f"{path}: not a spiking network of one timestep: its neurons have membranes")
    return net


def load_all(path: Path) -> tuple[SpikingNet, dict[str, Any], dict[str, np.ndarray]]:
    """The network, and the facts and thresholds of neurons with membranes, unread."""
    from safetensors import SafetensorError, safe_open

    arrays = load_tensors(path)
    try:
        with safe_open(path, framework="numpy") as file:
            head: Any = json.loads((file.metadata() or {})["spiking_net"])
        neurons = dict(head.pop("neurons"))
        thresholds = {name: arrays[f"{name}/threshold"] for name in neurons}
        populations = tuple(
            Population(
                p["name"],
                tuple(p["shape"]),
                tuple(_load_synapse(s, arrays[f"{p['name']}/{i}/weight"]) for i, s in enumerate(p["synapses"])),
                arrays[f"{p['name']}/bias"],
                p["threshold"],
            )
            for p in head.pop("populations")
        )
        head |= {"input_shape": tuple(head["input_shape"]), "input_range": tuple(head["input_range"])}
        net = SpikingNet(populations=populations, **head)
        net.check()
    except (KeyError, TypeError, ValueError, SafetensorError, EdgekitError) as error:
        raise Broken(f"{path}: not a spiking network ({error})") from None
    return net, neurons, thresholds


def _load_synapse(data: Mapping[str, Any], weight: np.ndarray) -> Synapse:
    geometry = {k: tuple(data[k]) for k in ("stride", "padding", "dilation", "pool")}
    return Synapse(data["source"], data["kind"], weight, groups=data["groups"], **geometry)
