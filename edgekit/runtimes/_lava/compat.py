"""Make lava-nc 0.10.0 and the netx part of lava-dl 0.6.0 importable on Python 3.11 and without torch.

For the isolated environment only (see edgekit/runtimes/lava.py); nothing installed is edited.
"""

import dataclasses
import importlib
import importlib.util
import sys
import types

# Modules that netx imports but needs only for resonate-and-fire neurons and for torch models.
TORCH_ONLY = (
    "lava.lib.dl.slayer",
    "lava.lib.dl.slayer.neuron",
    "lava.lib.dl.slayer.neuron.rf",
    "lava.lib.dl.netx.sequential_modules",
)


def install() -> None:
    """Call this before the first import of a lava module."""
    _import_with_hashable_encoder()
    _replace_torch_modules()


def _import_with_hashable_encoder() -> None:
    # Python 3.11 refuses a dataclass default that has no hash; var_model uses an instance of its ByteEncoder as one.
    plain = dataclasses.dataclass

    def hashable(cls=None, /, **options):  # type: ignore[no-untyped-def]
        if cls is not None and cls.__name__ == "ByteEncoder":
            options["unsafe_hash"] = True
        return plain(cls, **options)

    dataclasses.dataclass = hashable  # type: ignore[assignment]
    try:
        importlib.import_module("lava.magma.compiler.var_model")
    finally:
        dataclasses.dataclass = plain


def _replace_torch_modules() -> None:
    magma = importlib.util.find_spec("lava.magma")
    if magma is None or not magma.submodule_search_locations:
        raise ImportError("lava-nc is not installed in this environment")
    # Lava's compiler runs every .py file in the folder of a sibling module: a stub without __file__ stops it, and one
    # that points into another project would have that project's files executed.
    inside_lava = f"{next(iter(magma.submodule_search_locations))}/_absent.py"
    for name in TORCH_ONLY:
        stub = types.ModuleType(name)
        stub.__file__ = inside_lava
        stub.__path__ = []
        sys.modules[name] = stub
    sys.modules["lava.lib.dl.slayer.neuron.rf"].neuron_params = _refuse_resonators  # type: ignore[attr-defined]


def _refuse_resonators(*_: object) -> None:
    raise NotImplementedError("resonate-and-fire neurons need torch, which this environment does not have")
