"""Images with labels, split for training: the digits of scikit-learn, MNIST, CIFAR-10, and N-MNIST's time bins."""

from __future__ import annotations

import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

import numpy as np

from edgekit import data
from edgekit.errors import Broken, EdgekitError, no_such
from edgekit.events import MOST_EVENTS, load_frames

Split = tuple[np.ndarray, np.ndarray]  # images uint8 (N, C, H, W), labels int64 (N,)

CIFAR_RECORD = 1 + 3 * 32 * 32  # bytes: the label, then red, green, blue, each row by row


@dataclass(frozen=True)
class Images:
    """Images uint8 (N, C, H, W), or (N, bins, C, H, W), and labels int64 (N,), in three parts that share no image."""

    name: str
    form: str  # which files they came from: scores are comparable only within one form
    train_images: np.ndarray
    train_labels: np.ndarray
    validation_images: np.ndarray
    validation_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray
    classes: int
    pixel_max: int  # largest pixel value
    pixel_offset: int  # about the middle of the pixel range: pixel - offset is what networks see


def load_images(name: str, limits: tuple[int, int] = (0, 0), bins: int = 0) -> Images:
    """Load `digits`, `mnist`, `cifar10`, or `nmnist` in time bins: uint8 (N, bins, C, H, W). Always split the same way.

    limits: how many images to take for training (validation included) and for testing, from the start of the file;
    0 = all. The validation part is the last tenth of each class of the training images; the digits, which come in one
    file, are dealt out 3 : 1 : 1 within each class.
    Raises EdgekitError when the data is not on this machine or holds fewer images, Broken for a damaged file.
    """
    if name == "nmnist":
        return _nmnist(limits, bins)
    if name not in LOADERS:
        raise no_such("images", name, {*LOADERS, "nmnist"})
    return LOADERS[name](limits)


def _digits(limits: tuple[int, int]) -> Images:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)[:, None]  # 8 x 8, values 0..16
    labels = bunch.target.astype(np.int64)
    place = _place_in_class(labels) % 5  # 0, 1, 2: training; 3: validation; 4: test
    pool = np.flatnonzero(place < 4)
    pool = pool[: _limit(limits[0], len(pool), "training", "digits")]
    test = np.flatnonzero(place == 4)
    test = test[: _limit(limits[1], len(test), "test", "digits")]
    train, validation = pool[place[pool] < 3], pool[place[pool] == 3]
    return Images(
        "digits", "scikit-learn, 1797 images of 8x8",
        images[train], labels[train], images[validation], labels[validation], images[test], labels[test],
        classes=10, pixel_max=16, pixel_offset=8,
    )  # fmt: skip


def _mnist(limits: tuple[int, int]) -> Images:
    place = data.require("mnist")
    # A folder may hold only the first 12,000 training images, under names that say so.
    start = "train12k" if not _find(place, "train-images-idx3-ubyte.gz") else "train"
    names = [f"{s}-{kind}-ubyte.gz" for s in (start, "t10k") for kind in ("images-idx3", "labels-idx1")]
    for name in names:
        if not _find(place, name):
            raise EdgekitError(f"{place} has no {name}; complete it, or remove it and run `edgekit data fetch mnist`")
    train_images, train_labels, test_images, test_labels = (_read_idx(place / name) for name in names)
    train = _checked(place, train_images[:, None], train_labels)
    test = _checked(place, test_images[:, None], test_labels)
    return _images("mnist", f"idx, {len(train[0])} training images", train, test, limits)


def _cifar10(limits: tuple[int, int]) -> Images:
    place = data.require("cifar10")
    batches = [place / f"data_batch_{i}.bin" for i in range(1, 6)]
    if all(_find(place, p.name) for p in (*batches, place / "test_batch.bin")):
        parts = [_read_cifar(p) for p in batches]
        train = (np.concatenate([i for i, _ in parts]), np.concatenate([y for _, y in parts]))
        test = _read_cifar(place / "test_batch.bin")
        form = "binary version"
    elif _find(place, "cifar10_train.npz") and _find(place, "cifar10_test.npz"):
        train, test = _read_jpegs(place / "cifar10_train.npz"), _read_jpegs(place / "cifar10_test.npz")
        form = "JPEG subset"
    else:
        raise EdgekitError(
            f"{place} has neither data_batch_1..5.bin and test_batch.bin nor cifar10_train.npz and cifar10_test.npz; "
            "complete it, or remove it and run `edgekit data fetch cifar10`"
        )
    train, test = _checked(place, *train), _checked(place, *test)
    return _images("cifar10", f"{form}, {len(train[0])} training images", train, test, limits)


LOADERS: dict[str, Callable[[tuple[int, int]], Images]] = {"digits": _digits, "mnist": _mnist, "cifar10": _cifar10}


def _nmnist(limits: tuple[int, int], bins: int) -> Images:
    """Event counts are not centred: a pixel without events must give no current."""
    train, test = load_frames("train", bins), load_frames("test", bins)
    made = _images("nmnist", f"{bins} time bins, {len(train[0])} training samples", train, test, limits)
    return replace(made, pixel_max=MOST_EVENTS, pixel_offset=0)


def _images(name: str, form: str, train: Split, test: Split, limits: tuple[int, int]) -> Images:
    """8-bit images; the last tenth of each class of the (limited) training images becomes the validation part."""
    count = _limit(limits[0], len(train[0]), "training", name)
    images, labels = train[0][:count], train[1][:count]
    of_class = np.bincount(labels, minlength=10)[labels]
    last_tenth = _place_in_class(labels) >= of_class - of_class // 10
    count = _limit(limits[1], len(test[0]), "test", name)
    return Images(
        name, form, images[~last_tenth], labels[~last_tenth], images[last_tenth], labels[last_tenth],
        test[0][:count], test[1][:count], classes=10, pixel_max=255, pixel_offset=128,
    )  # fmt: skip


def _limit(limit: int, there: int, part: str, name: str) -> int:
    if limit < 0 or limit > there:
        raise EdgekitError(f"{limit} {part} images of {name} were asked for, there are {there}; 0 takes all")
    return limit or there


def _place_in_class(labels: np.ndarray) -> np.ndarray:
    """For each sample, how many samples of the same class come before it; int64 (N,)."""
    place = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        place[rows] = np.arange(len(rows))
    return place


def _checked(place: Path, images: np.ndarray, labels: np.ndarray) -> Split:
    if len(images) != len(labels) or not len(images):
        raise Broken(f"{place}: {len(images)} images have {len(labels)} labels; get the files again")
    odd = labels[(labels < 0) | (labels > 9)]
    if len(odd):
        raise Broken(f"{place}: there is a label {odd[0]}, but ten classes; get the files again")
    return images, labels.astype(np.int64)


def _find(place: Path, name: str) -> bool:
    return (place / name).is_file()


def _read_idx(path: Path) -> np.ndarray:
    """A gzipped idx file of unsigned bytes: 0, 0, 8, number of dimensions; their sizes, big-endian; the values."""
    try:
        raw = gzip.decompress(path.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise Broken(f"{path} is not a gzip file ({error}); get it again") from None
    dimensions = 3 if "idx3" in path.name else 1
    if len(raw) < 4 + 4 * dimensions or raw[:4] != bytes((0, 0, 8, dimensions)):
        raise Broken(f"{path} is not an idx file of bytes in {dimensions} dimensions; get it again")
    shape = struct.unpack_from(f">{dimensions}I", raw, 4)
    values = np.frombuffer(raw, np.uint8, offset=4 + 4 * dimensions)
    if len(values) != int(np.prod(shape)):
        raise Broken(f"{path} holds {len(values)} bytes, its header says {list(shape)}; get it again")
    return values.reshape(shape).copy()  # writable, as torch asks


def _read_cifar(path: Path) -> Split:
    raw = np.frombuffer(path.read_bytes(), np.uint8)
    if len(raw) % CIFAR_RECORD:
        raise Broken(f"{path} holds {len(raw)} bytes, which are no whole records of {CIFAR_RECORD}; get it again")
    records = raw.reshape(-1, CIFAR_RECORD)
    return records[:, 1:].reshape(-1, 3, 32, 32).copy(), records[:, 0].copy()


def _read_jpegs(path: Path) -> Split:
    """An npz of all JPEG files one after the other (`jpeg`), where each begins (`offsets`, n + 1), and `labels`."""
    from PIL import Image

    try:
        with path.open("rb") as file, np.load(file) as packed:
            jpeg, offsets, labels = packed["jpeg"], packed["offsets"], packed["labels"]
        images = np.empty((len(offsets) - 1, 3, 32, 32), np.uint8)
        for i in range(len(images)):
            with Image.open(BytesIO(jpeg[offsets[i] : offsets[i + 1]].tobytes()), formats=("JPEG",)) as image:
                images[i] = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    except (OSError, ValueError, TypeError, KeyError, IndexError, zipfile.BadZipFile) as error:
        raise Broken(f"{path} is not an archive of 32x32 JPEG images ({error}); get it again") from None
    return images, labels
