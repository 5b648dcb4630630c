"""A stranger's NIR file, opened in the process with limits: it is HDF5, whose reader in C was not written for hostile files."""

from __future__ import annotations

import tempfile
from pathlib import Path

from edgekit import limits, nir_file, spiking_net
from edgekit.errors import Broken
from edgekit.machine_code import trusted
from edgekit.model_engine import Refused
from edgekit.sniff import read_plain
from edgekit.spiking_net import SpikingNet
from edgekit.untrusted_process import Child


def read(path: Path, manifest_sha256: str) -> SpikingNet:
    """The network of a bundle's NIR file: read here where this account made the bundle or --trust was said, else in the child process.

    Broken, in one sentence, for a file that is no such network, or that its reader does not survive."""
    if trusted(manifest_sha256):
        return nir_file.read(path)
    raw = read_plain(path, limits.MOST_MODEL_BYTES, "a NIR file")
    child = Child(len(raw))
    try:
        made = child.network_of(raw)
    except Refused as why:
        raise Broken(f"{path}: {why}") from None
    finally:
        child.close()
    with tempfile.TemporaryDirectory(prefix="edgekit-nir-") as folder:
        beside = Path(folder) / "network.safetensors"
        beside.write_bytes(made)
        return spiking_net.load(beside)
