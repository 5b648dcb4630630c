"""Labelled images in memory: scikit-learn digits, MNIST, CIFAR-10; train, validation and test apart."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgekit import data
from edgekit.errors import Broken, EdgekitError, no_such

VALIDATION_SHARE = 0.1  # the last tenth of the training images; digits have a share of their own


@dataclass(frozen=True)
class Images:
    """uint8 images (N, C, H, W), labels int64 (N,). A network sees (pixel - pixel_offset) / pixel_offset."""

    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    pixel_max: int
    pixel_offset: int


def load_images(name: str, limits: tuple[int, int] = (0, 0)) -> Images:
    """The first `limits` (train incl. validation, test) images of a set, 0 = all. EdgekitError when it is not here."""
    readers = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10}
    if name not in readers:
        raise no_such("image set", name, readers)
    (train, train_labels), (test, test_labels) = readers[name]()
    if any(n < 0 for n in limits) or 0 < limits[0] < 20:
        raise EdgekitError(f"limits of images are 0 (all) or at least 20 for training, found {limits}")
    train, train_labels = train[: limits[0] or None], train_labels[: limits[0] or None]
    test, test_labels = test[: limits[1] or None], test_labels[: limits[1] or None]
    kept = len(train) - max(1, round(len(train) * (0.15 if name == "digits" else VALIDATION_SHARE)))
    top, offset = (16, 8) if name == "digits" else (255, 128)
    return Images(
        train[:kept], train_labels[:kept], train[kept:], train_labels[kept:], test, test_labels, 10, top, offset
    )  # fmt: skip


Pair = tuple[np.ndarray, np.ndarray]


def _digits() -> tuple[Pair, Pair]:
    """1,797 images of 8x8 with 17 grey levels; every fifth of a fixed shuffle is held out (360)."""
    from sklearn.datasets import load_digits

    raw = load_digits()
    order = np.random.default_rng(0).permutation(len(raw.images))
    images, labels = raw.images[order].astype(np.uint8)[:, None], raw.target[order].astype(np.int64)
    held_out = np.arange(len(images)) % 5 == 0
    return (images[~held_out], labels[~held_out]), (images[held_out], labels[held_out])


def _folder(name: str) -> Path:
    found = data.folder(name)
    if found is None:
        raise EdgekitError(
            f"no {name} images here: set EDGEKIT_DATA to a folder that holds {name}/, or run `edgekit data fetch {name}`"
        )
    return found


def _mnist() -> tuple[Pair, Pair]:
    folder = _folder("mnist")
    start = "train" if (folder / "train-images-idx3-ubyte.gz").exists() else "train12k"
    return _idx_pair(folder, start), _idx_pair(folder, "t10k")


def _idx_pair(folder: Path, start: str) -> Pair:
    """The original idx format: 16 bytes of header before the images, 8 before the labels."""
    try:
        pixels = gzip.decompress((folder / f"{start}-images-idx3-ubyte.gz").read_bytes())
        labels = gzip.decompress((folder / f"{start}-labels-idx1-ubyte.gz").read_bytes())
        images = np.frombuffer(pixels, np.uint8, offset=16).reshape(-1, 1, 28, 28)
        named = np.frombuffer(labels, np.uint8, offset=8).astype(np.int64)
        if len(images) != len(named):
            raise ValueError(f"{len(images)} images but {len(named)} labels")
    except (OSError, ValueError, EOFError) as error:
        raise Broken(f"{folder}: {start}-*-ubyte.gz cannot be read ({error}); fetch it again") from None
    return images, named


def _cifar10() -> tuple[Pair, Pair]:
    folder = _folder("cifar10")
    try:
        if (folder / "cifar10_train.npz").exists():
            return _jpegs(folder / "cifar10_train.npz"), _jpegs(folder / "cifar10_test.npz")
        train = [_binary(folder / f"data_batch_{i}.bin") for i in range(1, 6)]
        return (np.concatenate([x for x, _ in train]), np.concatenate([y for _, y in train])), _binary(
            folder / "test_batch.bin"
        )
    except (OSError, ValueError, KeyError) as error:
        raise Broken(f"{folder}: CIFAR-10 cannot be read ({error}); fetch it again") from None


def _binary(path: Path) -> Pair:
    """The official binary version: a label byte and 3 x 32 x 32 pixels a record."""
    records = np.frombuffer(path.read_bytes(), np.uint8).reshape(-1, 3073)
    return records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64)


def _jpegs(path: Path) -> Pair:
    """JPEG files, concatenated: `jpeg` bytes, `offsets` (n + 1), `labels`."""
    from PIL import Image

    with np.load(path, allow_pickle=False) as file:
        raw, offsets, labels = file["jpeg"], file["offsets"], file["labels"]
    images = [
        np.asarray(Image.open(io.BytesIO(raw[a:b].tobytes())).convert("RGB"))
        for a, b in zip(offsets, offsets[1:], strict=False)
    ]
    return np.ascontiguousarray(np.stack(images).transpose(0, 3, 1, 2)), labels.astype(np.int64)
