"""NIR: the one-timestep network in the neuromorphic field's exchange format, float weights."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from edgekit import nir_file, spiking_net
from edgekit.bundle import Bundle, Lineage, done_already, new_bundle, open_bundle
from edgekit.parts import Exporter, Trained, manifest_of


class Nir(Exporter):
    """model.nir, and the same network as spiking_net.safetensors for the calibrator and the reference."""

    needs = ("nir",)
    extra = "nir"
    format = "nir"
    accepts = ("checkpoint",)

    def export(self, source: Trained | Bundle, out: Path, options: Mapping[str, Any]) -> Bundle:
        """Write the file and read it back; EdgekitError when the model is no one-timestep spiking network."""
        assert isinstance(source, Trained)
        lineage = Lineage("export nir", source.sha256, dict(options), {"nir": version("nir")})
        if done := done_already(out, lineage):
            return done
        net = source.spiking_net()
        manifest = manifest_of(source, "nir", {"main": "model.nir"}, lineage)
        with new_bundle(out, manifest, source.goldens()) as draft:
            nir_file.write(net, draft / "model.nir")
            spiking_net.save(net, draft / "spiking_net.safetensors")
        return open_bundle(out)


PART = Nir()
