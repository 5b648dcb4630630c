"""Where data sets lie, and how users with internet get them: official source, checksum, whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from edgekit.errors import Broken, EdgekitError, no_such
from edgekit.files import folder_draft
from edgekit.measurement import Progress

CHUNK = 1 << 20
TIMEOUT_S = 60


@dataclass(frozen=True)
class Source:
    """One file of a data set, with its SHA-256; of a tar archive, `members` are unpacked."""

    url: str
    sha256: str
    members: tuple[str, ...] = ()


@dataclass(frozen=True)
class DataSet:
    """The files of a data set and what may be done with them."""

    sources: tuple[Source, ...]
    licence: str


_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_CIFAR = ("data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin", "test_batch.bin")

# SHA-256 as in TensorFlow Datasets' checksum files for the same addresses.
DATASETS: dict[str, DataSet] = {
    "mnist": DataSet(
        (
            Source(_MNIST + "train-images-idx3-ubyte.gz", "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"),
            Source(_MNIST + "train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"),
            Source(_MNIST + "t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"),
            Source(_MNIST + "t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"),
        ),
        "CC BY-SA 3.0, Y. LeCun, C. Cortes",
    ),
    "cifar10": DataSet(
        (
            Source(  # the binary version: the other one is pickled
                "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                tuple(f"cifar-10-batches-bin/{name}" for name in _CIFAR),
            ),
        ),
        "none stated by its authors; cite A. Krizhevsky, 2009",
    ),
}


def cache_folder() -> Path:
    """Where edgekit keeps what it fetches and builds: EDGEKIT_CACHE, or ~/.cache/edgekit."""
    return Path(os.environ.get("EDGEKIT_CACHE") or Path.home() / ".cache" / "edgekit")


def folder(name: str) -> Path | None:
    """The folder of a data set, under EDGEKIT_DATA or fetched; None when it is in neither."""
    roots = [Path(os.environ["EDGEKIT_DATA"])] if os.environ.get("EDGEKIT_DATA") else []
    return next((r / name for r in (*roots, cache_folder() / "data") if (r / name).is_dir()), None)


def fetch(name: str, progress: Progress) -> Path:
    """Download a data set into the cache; the folder appears when every file's SHA-256 is right."""
    if name not in DATASETS:
        raise no_such("data set", name, DATASETS, "digits comes with scikit-learn and need not be fetched")
    out = cache_folder() / "data" / name
    if out.is_dir():
        return out
    with folder_draft(out) as draft:
        for source in DATASETS[name].sources:
            _download(source, draft, progress)
    return out


def _download(source: Source, draft: Path, progress: Progress) -> None:
    file_name = source.url.rsplit("/", 1)[-1]
    path, digest, done = draft / file_name, hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(source.url, timeout=TIMEOUT_S) as answer, path.open("wb") as file:
            total = int(answer.headers.get("Content-Length") or 0)
            while block := answer.read(CHUNK):
                file.write(block)
                digest.update(block)
                done += len(block)
                progress(file_name, done, max(total, done))
    except (OSError, urllib.error.URLError, ValueError) as error:
        raise EdgekitError(
            f"cannot fetch {source.url} ({error}); check the network, or put the files in a folder and set EDGEKIT_DATA"
        ) from None
    if digest.hexdigest() != source.sha256:
        raise Broken(f"{source.url} gave {done} bytes with SHA-256 {digest.hexdigest()}, expected {source.sha256}; nothing was kept")
    if source.members:
        _unpack(path, source.members, draft)
        path.unlink()


def _unpack(path: Path, members: tuple[str, ...], draft: Path) -> None:
    """Only the named members, as plain files under their last name."""
    with tarfile.open(path) as archive:
        for member in members:
            file = archive.extractfile(member)
            if file is None:
                raise Broken(f"{path.name} holds no file {member}")
            with file, (draft / Path(member).name).open("wb") as target:
                shutil.copyfileobj(file, target)
