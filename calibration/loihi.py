"""Integers that fit Loihi: 8-bit weights, thresholds and biases inside the hardware's ranges."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import integer_net, nir_file, spiking_net
from edgekit.bundle import Allowed, Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.errors import EdgekitError
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator
from edgekit.spiking_net import SpikingNet
from edgekit.task import task_of


class Loihi(Calibrator):
    """Scales from the weights and from bounds on the currents; with samples, layer by layer the form that flips the fewest
    spikes. `details.loihi` says what share of the samples held back are answered as by the float network, before and after."""

    needs = ("nir",)
    extra = "nir"
    format = "nir"
    accepts = ("nir:f32",)
    precision = "int8"

    def calibrate(self, source: Bundle, out: Path, options: Mapping[str, Any], progress: Progress = silent) -> Bundle:
        """Golden answers stay those of the float model; `exact` holds what the integers must give, spikes included."""
        lineage = Lineage("calibrate loihi", source.sha256, dict(options), {"nir": version("nir")})
        if done := done_already(out, lineage):
            return done
        floats = spiking_net.load(source.folder / "spiking_net.safetensors")
        net, found = _on_samples(floats, source)
        golden = source.golden()
        exact = spiking_net.simulate(net, next(iter(golden.inputs.values())))
        # 0.02: what rounding weights to 8 bits may cost; measured on the test data, and refused beyond.
        allowed = Allowed(score_drop=0.02, exact=True)
        manifest = dataclasses.replace(source.manifest, precision="int8", allowed=allowed, lineage=lineage, details={"loihi": found}, files={})
        with new_bundle(out, manifest, [dataclasses.replace(golden, exact=exact)], parent=source) as draft:
            nir_file.write(net, draft / "model.nir")
            spiking_net.save(net, draft / "integer_net.safetensors")
        return open_bundle(out)


PART = Loihi()

SAMPLES = 200  # to choose on, and as many to compare with


def _on_samples(floats: SpikingNet, source: Bundle) -> tuple[SpikingNet, dict[str, Any]]:
    """The better of the forms with and without samples, and how it was found. Without samples, the weights decide."""
    plain = integer_net.quantise(floats)
    model = source.manifest.model
    if model is None:
        return plain, {"chosen_on": 0, "why": "the model came without samples"}
    try:
        images = next(iter(task_of(model).samples(model, 2 * SAMPLES).values()))
    except EdgekitError as error:
        return plain, {"chosen_on": 0, "why": str(error)}
    chosen = integer_net.quantise(floats, samples=images[::2])
    wanted = _answers(floats, images[1::2])
    before, after = (float((_answers(n, images[1::2]) == wanted).mean()) for n in (plain, chosen))
    kept = chosen if after > before else plain
    return kept, {"chosen_on": len(images[::2]), "held_back": len(wanted), "same_answers_by_weights": before, "same_answers_on_samples": after}


def _answers(net: SpikingNet, images: np.ndarray) -> np.ndarray:
    found: np.ndarray = spiking_net.simulate(net, images)["logits"].argmax(1)
    return found
