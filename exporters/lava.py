"""Integer spiking network -> netx HDF5, which Lava runs in the fixed-point arithmetic of Loihi 2.

netx is a sequence of conv and dense layers of leaky neurons with weights, one bias per channel and one threshold. At one
timestep a sample is one time step: with current and voltage decay 4096 (of 4096) a neuron keeps nothing, its voltage
is (sum + bias) << 6, and it fires iff that is above threshold << 6. The read-out has a threshold that is never
reached; its voltage >> 6 is the read-out current.

`details` of the bundle: input_shape (as the first layer takes it, without the batch), input_offset, input_range,
message_bits (of the graded input), layers (name and shape, in order; the last is the read-out), readout_scale.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import bundle as bundles
from edgekit import integer_net, spiking_net
from edgekit.bundle import Bundle, Lineage
from edgekit.errors import EdgekitError
from edgekit.parts import Exporter, Trained
from edgekit.spiking_net import INPUT, Population, SpikingNet, Synapse

MODEL = "model.net"
INTEGER_NET = "integer_net.safetensors"
KEEP_NOTHING = 4096  # iDecay and vDecay: the whole of a 12-bit fraction decays in one step
NEVER = integer_net.LOIHI.threshold[1]  # check_ranges keeps every current at or below it, and `fires` is strict
MESSAGE_BITS = 16  # what Lava's dense synapse declares for its values, and does not check
GEOMETRY = 127  # Lava's Conv process keeps kernel size, stride, padding and dilation as int8


class Lava(Exporter):
    """From a calibrated NIR bundle: writes `model.net` and passes `integer_net.safetensors` on."""

    format = "lava"
    accepts = ("nir:int8",)
    precision = "int8"
    needs = ("h5py",)
    extra = "lava"

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """See Exporter.export."""
        if not isinstance(source, Bundle) or source.label not in self.accepts:
            found = source.label if isinstance(source, Bundle) else "a checkpoint"
            raise EdgekitError(f"lava is compiled from a bundle {self.accepts[0]}, found {found}; calibrate it first: "
                               "`edgekit calibrate BUNDLE --method loihi`")  # fmt: skip
        lineage = Lineage("compile lava", source.sha256, dict(options), {"h5py": version("h5py")})
        done = bundles.done_already(out, lineage)
        if done is not None:
            return done
        net = spiking_net.load(source.folder / INTEGER_NET)
        layers = netx_layers(net)
        graphs = {"main": dataclasses.replace(source.manifest.graphs["main"], file=MODEL)}
        manifest = dataclasses.replace(
            source.manifest, format="lava", graphs=graphs, lineage=lineage, details=_details(net, layers), files={}
        )
        with bundles.new_bundle(out, manifest, [source.golden()], parent=source) as draft:
            shutil.copyfile(source.folder / INTEGER_NET, draft / INTEGER_NET)
            write_netx(net, layers, draft / MODEL)
        return bundles.open_bundle(out)


@dataclass(frozen=True)
class Layer:
    """A population as netx has it: one conv or dense synapse, no pooling. Integers throughout, (y, x) geometry."""

    population: Population
    kind: str
    weight: np.ndarray
    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


def netx_layers(net: SpikingNet) -> list[Layer]:
    """The populations as netx layers; EdgekitError, naming the layer, for what netx or Lava cannot say exactly.

    Not checked here, since a SpikingNet cannot hold it: delays, recurrent weights, leaks, several thresholds in a layer
    (netx would clamp delays, and takes one threshold a layer). Nothing is reset, as nothing is kept between steps: the
    off-by-one of netx's reset_offset cannot occur.
    """
    integer_net.check_ranges(net)  # beyond them Lava wraps (bias), clips or zeroes (dense weights) without a word
    _message_bits(net)
    before = INPUT
    layers = []
    for p in net.populations:
        if p.threshold is not None and int(p.threshold) != p.threshold:
            raise EdgekitError(f"layer '{p.name}': the threshold {p.threshold} is not an integer, and netx would cut it")
        if [s.source for s in p.synapses] != [before]:
            listens = ", ".join(f"'{s.source}'" for s in p.synapses) or "nothing"
            raise EdgekitError(
                f"layer '{p.name}' listens to {listens}, but netx is sequential: it can only listen to '{before}'; "
                "deploy a residual network as nir"
            )
        layer = _fold_pool(p, p.synapses[0], net.shape_of(before))
        _check_layer(layer)
        layers.append(layer)
        before = p.name
    return layers


def _fold_pool(p: Population, s: Synapse, source: tuple[int, ...]) -> Layer:
    """Sum pooling before weights is the same weights repeated over each window: exact, as both only add."""
    if s.pool == (1, 1):
        return Layer(p, s.kind, s.weight, s.stride, s.padding, s.dilation, s.groups)
    (py, px), (height, width) = s.pool, source[1:]
    if s.kind == "dense":
        h, w = height // py, width // px
        full = np.zeros((len(s.weight), source[0], height, width), s.weight.dtype)  # a dropped row or column stays 0
        pooled = s.weight.reshape(len(s.weight), source[0], h, w)
        full[:, :, : h * py, : w * px] = pooled.repeat(py, axis=2).repeat(px, axis=3)
        return Layer(p, s.kind, full.reshape(len(full), -1), s.stride, s.padding, s.dilation, s.groups)
    if s.dilation != (1, 1):
        raise EdgekitError(f"layer '{p.name}': a convolution with dilation {s.dilation} after pooling cannot be said in netx")
    if any(n % q and pad for n, q, pad in zip(source[1:], s.pool, s.padding, strict=True)):
        # The row that pooling drops would lie where the padding begins, and count.
        raise EdgekitError(
            f"layer '{p.name}': a padded convolution after {py} x {px} pooling of a {height} x {width} map cannot be said "
            "in netx; make the map a multiple of the window, or do not pad"
        )
    weight = s.weight.repeat(py, axis=2).repeat(px, axis=3)
    stride, padding = (s.stride[0] * py, s.stride[1] * px), (s.padding[0] * py, s.padding[1] * px)
    return Layer(p, s.kind, weight, stride, padding, (1, 1), s.groups)


def _check_layer(layer: Layer) -> None:
    name, w = layer.population.name, layer.weight
    if layer.kind == "conv":
        largest = max(*w.shape[2:], *layer.stride, *layer.padding, *layer.dilation, layer.groups)
        if largest > GEOMETRY:
            raise EdgekitError(
                f"layer '{name}': kernel {w.shape[2:]}, stride {layer.stride}, padding {layer.padding}, dilation "
                f"{layer.dilation} and {layer.groups} groups (with pooling folded in) must not exceed {GEOMETRY} in Lava"
            )
        return
    # netx shifts a dense matrix up to fill 8 bits (lava-dl 0.6.0, netx/utils.py): it divides by the largest weight, and
    # a matrix without a positive weight whose lowest is -2^n ends at -256, which the 8 unsigned bits of an inhibitory
    # synapse do not hold. Tried for every pair of lowest and highest weight: these are the only ones that go wrong.
    if not w.any():
        raise EdgekitError(f"layer '{name}': all its weights are 0, and netx cannot scale such a matrix; leave the layer out")
    lowest = -int(w.min())
    if w.max() <= 0 and lowest & (lowest - 1) == 0:
        raise EdgekitError(
            f"layer '{name}': no weight is positive and the lowest is {-lowest}, a power of two, which netx clips; "
            "change one weight by 1"
        )


def _message_bits(net: SpikingNet) -> int:
    """The bits of a graded input spike with its sign. Never 0: Lava would then take every non-zero value as 1."""
    low, high = net.input_range
    bits = max(1, max(abs(low), abs(high)).bit_length()) + (low < 0)
    if bits > MESSAGE_BITS:
        raise EdgekitError(f"the input runs from {low} to {high}, which takes {bits} bits, but a graded spike has {MESSAGE_BITS}")
    return bits


def _input_shape(net: SpikingNet, layers: list[Layer]) -> tuple[int, ...]:
    # A `flatten` before the first layer does nothing in netx, so the samples themselves are flattened for a dense one.
    return net.input_shape if layers[0].kind == "conv" else (int(np.prod(net.input_shape)),)


def _details(net: SpikingNet, layers: list[Layer]) -> dict[str, Any]:
    return {
        "input_shape": list(_input_shape(net, layers)),
        "input_offset": net.input_offset,
        "input_range": list(net.input_range),
        "message_bits": _message_bits(net),
        "layers": [{"name": p.name, "shape": list(p.shape)} for p in net.populations],
        "readout_scale": net.readout_scale,
    }


def write_netx(net: SpikingNet, layers: list[Layer], path: Path) -> None:
    """Write the layers as netx reads them: datasets only, no attributes; same bytes for the same network."""
    import h5py

    # An input without a neuron costs no time step. `messageBits` must not be written: netx cannot read it back.
    entries: list[dict[str, Any]] = [{"type": "input", "shape": _input_shape(net, layers)}]
    for number, layer in enumerate(layers):
        p = layer.population
        if layer.kind == "dense" and number and layers[number - 1].kind == "conv":
            entries.append({"type": "flatten"})
        entry: dict[str, Any] = {"type": layer.kind, "shape": p.shape, "weight": layer.weight, "bias": p.bias}
        if layer.kind == "conv":
            geometry = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
            entry |= {**geometry, "groups": layer.groups}
        threshold = NEVER if p.threshold is None else int(p.threshold)
        # Always written: without it a dense layer would get a neuron that keeps its current.
        neuron: dict[str, Any] = {"type": "LOIHI", "iDecay": KEEP_NOTHING, "vDecay": KEEP_NOTHING, "vThMant": threshold}
        entries.append(entry | {f"neuron/{key}": value for key, value in neuron.items()})
    with h5py.File(path, "w") as file:
        for number, entry in enumerate(entries):
            for key, value in entry.items():
                # All are integers by check_ranges: netx would cut fractions.
                data = np.array([value], "S10") if isinstance(value, str) else np.asarray(value, np.int32)
                file[f"layer/{number}/{key}"] = data


PART = Lava()
