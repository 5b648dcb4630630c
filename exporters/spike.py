"""A one-timestep spiking network in integers for edgekit's own spike engine, which adds up events where others multiply zeros."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import __version__, integer_net, spiking_net
from edgekit.bundle import Allowed, Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Exporter, Trained, manifest_of
from edgekit.spiking_net import SpikingNet

FILE = "integer_net.safetensors"
MOST_VALUES = 1 << 26  # of all populations; kMostValues in runtime/src/spike/network.hpp
BYTES = (0, 255)  # what an image may hold: the engine reads bytes


class Spike(Exporter):
    """The integers of integer_net.quantise_per_channel, in the file of spiking_net.save: no graph, since the engine knows one."""

    format = "spike"
    accepts = ("checkpoint",)
    precision = "int8"

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """EdgekitError for what is no one-timestep spiking network over images of bytes, or whose sums are too large."""
        assert isinstance(source, Trained)
        image = source.signature.inputs[0]
        if image.dtype != "uint8":
            raise EdgekitError(f"the spike engine reads images of bytes, but '{image.name}' is {image.dtype}; export it as nir or onnx")
        net = integer_net.quantise_per_channel(source.spiking_net())
        check(net)
        lineage = Lineage("export spike", source.sha256, dict(options), {"edgekit": __version__})
        if done := done_already(out, lineage):
            return done
        base = manifest_of(source, "spike", {"main": FILE}, lineage)
        manifest = dataclasses.replace(base, precision="int8", allowed=Allowed(score_drop=0.02, exact=True))
        goldens = [dataclasses.replace(g, exact=spiking_net.simulate(net, next(iter(g.inputs.values())))) for g in source.goldens()]
        with new_bundle(out, manifest, goldens) as draft:
            spiking_net.save(net, draft / FILE)
        return open_bundle(out)


PART = Spike()


def check(net: SpikingNet) -> None:
    """Raise EdgekitError, naming the layer, unless the engine can hold the network: runtime/src/spike/network.cpp has the same limits."""
    if not BYTES[0] <= net.input_offset <= BYTES[1]:
        raise EdgekitError(f"the image minus {net.input_offset} is what the network sees; the spike engine subtracts 0 to 255")
    values = sum(math.prod(p.shape) for p in net.populations)
    if values > MOST_VALUES:
        raise EdgekitError(f"an image makes {values} values in this network; the spike engine holds {MOST_VALUES}")
    for p in net.populations:
        largest = int((integer_net.largest_current(net, p) + np.abs(p.bias)).max())
        if largest >= 1 << 30:
            raise EdgekitError(f"layer '{p.name}': its sum can reach {largest}, the spike engine holds less than {1 << 30}")
