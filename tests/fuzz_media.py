"""Fuzz targets of files that C libraries decode: sounds, pictures and films, and NIR networks (HDF5, in the process with limits)."""

from __future__ import annotations

import contextlib
import io
import random
import wave
from contextlib import ExitStack
from typing import Any

import numpy as np
import random_nets
from fuzz_base import File, Target

from edgekit import nir_file, sound
from edgekit.errors import Broken
from edgekit.integer_net import quantise
from edgekit.model_engine import Refused
from edgekit.picture_file import read_picture
from edgekit.untrusted_process import Child


def _wavs(stack: ExitStack) -> Target:
    import soundfile

    file, samples = File(".wav", stack), np.sin(np.arange(60) / 3).astype(np.float32)
    seeds = []
    for kind, subtype in (("WAV", "PCM_16"), ("WAV", "FLOAT"), ("WAVEX", "PCM_24"), ("WAV", "MS_ADPCM"), ("FLAC", "PCM_16"), ("OGG", "VORBIS"), ("AIFF", "PCM_U8")):
        made = io.BytesIO()
        soundfile.write(made, np.stack([samples, -samples], 1), 8000, subtype, format=kind)
        seeds.append(made.getvalue())
    plain = io.BytesIO()
    with wave.open(plain, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(16000)
        out.writeframes((samples * 9000).astype("<i2").tobytes())
    return Target(lambda raw: sound.read_sound(file.of(raw), 16000), (*seeds, plain.getvalue()))


def _pictures(stack: ExitStack) -> Target:
    from PIL import Image

    file = File(".png", stack)
    grey = Image.fromarray(np.arange(96, dtype=np.uint8).reshape(8, 12))
    colour = Image.fromarray((np.arange(288) % 251).astype(np.uint8).reshape(8, 12, 3))
    deep = Image.fromarray((np.arange(96, dtype=np.uint16) * 600).reshape(8, 12))
    exif = Image.Exif()
    exif[0x0112] = 6  # turned
    exif[0x010E] = "what it shows"
    films = {"save_all": True, "append_images": [colour.rotate(90, expand=False), colour], "duration": [40, 80, 40]}
    kinds: tuple[tuple[Any, str, dict[str, Any]], ...] = (
        (grey, "PNG", {}), (colour, "PNG", {"exif": exif}), (deep, "PNG", {}), (colour.quantize(8), "PNG", {"transparency": 0}), (colour, "PNG", films),
        (colour, "JPEG", {"exif": exif, "quality": 60}), (grey, "JPEG", {"progressive": True}), (colour, "GIF", films), (grey, "GIF", {}),
        (colour, "WEBP", {"lossless": True, "exif": exif}), (colour, "WEBP", films),
    )  # fmt: skip
    seeds = []
    for image, kind, more in kinds:
        made = io.BytesIO()
        image.save(made, kind, **more)
        seeds.append(made.getvalue())
    return Target(lambda raw: read_picture(file.of(raw), 3, 8, 8), tuple(seeds))


NUMBERS = (0, 1, -1, 2, 3, 7, 255, 2**31 - 1, -(2**31), 2**62, 0.5, -0.0, 1e300, float("nan"), float("inf"))


def _nirs(stack: ExitStack) -> Target:
    """Files changed by bytes and as HDF5; read by the child process, of which one serves all files that it survives."""
    import h5py

    seeds = []
    for net in (random_nets.network("pooled"), quantise(random_nets.network("dense"))):
        file = File(".nir", stack)
        nir_file.write(net, file.path)
        seeds.append(file.path.read_bytes())
    child = Child(1 << 20)
    stack.callback(child.close)

    def inside(which: int, rng: random.Random) -> bytes:
        made = io.BytesIO(seeds[which])
        with h5py.File(made, "r+") as opened:
            places: list[tuple[Any, str]] = []
            opened.visititems(lambda name, item: places.append((item.parent, name.rpartition("/")[2])))
            for _ in range(rng.choice((1, 1, 2, 3))):
                (group, name), (other, its) = rng.choice(places), rng.choice(places)
                with contextlib.suppress(OSError, ValueError, KeyError):  # what HDF5 cannot say: nothing, or a field less
                    _changed(group, name, other, its, rng)
        return made.getvalue()

    def read(raw: bytes) -> None:
        child._wasted_s = 0.0  # each file has its own time, as if it had its own process
        try:
            child.network_of(raw)
        except Refused as why:
            raise Broken(str(why)) from None

    return Target(read, tuple(seeds), inside)


def _changed(group: Any, name: str, other: Any, its: str, rng: random.Random) -> None:
    import h5py

    how = rng.randrange(8)
    item = group[name]
    old = item[()] if isinstance(item, h5py.Dataset) and item.nbytes < 1e6 else None
    same = other.get(its)
    if how == 5 and same is not None:
        as_name = rng.choice(("x", "bias", "weight", name + "2"))
        if as_name not in group:
            group[as_name] = same  # a second name of it, perhaps of a group that it lies in
        return
    del group[name]
    if how == 0:
        group[name] = rng.choice(NUMBERS)
    elif how == 1:
        group[name] = rng.choice((b"", b"IF", b"LIF", b"Conv2d", b"Input", b"NIRGraph", b"\xff\x80", b"input", b"x" * 3000, b"{}", b"[1]", b"{"))
    elif how == 2 and isinstance(old, np.ndarray) and old.size:
        flat = old.reshape(-1)[: rng.randrange(old.size + 1)]
        group[name] = flat if flat.dtype != object else np.array([rng.choice((b"a", b"input")) for _ in flat], "S9")
    elif how == 3 and isinstance(old, np.ndarray) and old.dtype.kind in "iuf" and old.size:
        changed = old.copy()
        with np.errstate(all="ignore"):
            changed.reshape(-1)[rng.randrange(old.size)] = np.array(rng.choice(NUMBERS)).astype(old.dtype)
        group[name] = changed
    elif how == 4:
        group.create_dataset(name, rng.choice(((2**40,), (3, 2**20), (0,), (1, 1, 1, 1, 1))), rng.choice(("f4", "i8", "u1")), chunks=True)
    elif how == 6:
        group[name] = h5py.SoftLink("/" + rng.choice(("node", "version", "none"))) if rng.random() < 0.5 else h5py.ExternalLink("/etc/passwd", "/")
    elif how == 7:
        group.create_dataset(name, (4,), "f4", external=[("/etc/passwd", 0, 16)])


TARGETS = {"wav": _wavs, "picture": _pictures, "nir": _nirs}
