"""Integers that fit Loihi: 8-bit weights, thresholds and biases inside the hardware's ranges."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgekit import integer_net, nir_file, spiking_net
from edgekit.bundle import Allowed, Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.measurement import Progress, silent
from edgekit.parts import Calibrator


class Loihi(Calibrator):
    """Scales come from the weights and from bounds on the currents alone, so no data is needed."""

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
        net = integer_net.quantise(spiking_net.load(source.folder / "spiking_net.safetensors"))
        golden = source.golden()
        exact = spiking_net.simulate(net, next(iter(golden.inputs.values())))
        # 0.02: what rounding weights to 8 bits may cost; measured on the test data, and refused beyond.
        allowed = Allowed(score_drop=0.02, exact=True)
        manifest = dataclasses.replace(source.manifest, precision="int8", allowed=allowed, lineage=lineage, files={})
        with new_bundle(out, manifest, [dataclasses.replace(golden, exact=exact)]) as draft:
            nir_file.write(net, draft / "model.nir")
            spiking_net.save(net, draft / "integer_net.safetensors")
        return open_bundle(out)


PART = Loihi()
