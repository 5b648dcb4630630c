"""Public data sets: where they lie on this machine, and how they are fetched from their sources and checked."""

from __future__ import annotations

import http.client
import os
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from edgekit import files, lock
from edgekit.errors import Broken, EdgekitError, Unwritable, no_such
from edgekit.measurement import Progress

TIMEOUT_S = 30.0
CHUNK = 1 << 20  # bytes


@dataclass(frozen=True)
class Source:
    """One file of a data set. `members` are the files taken out of a tar archive, with their bytes; empty: kept as it is."""

    urls: tuple[str, ...]  # the same bytes at each; the first that answers is taken
    sha256: str
    size: int  # bytes
    members: tuple[tuple[str, int], ...] = ()

    @property
    def name(self) -> str:
        """The file's name."""
        return PurePosixPath(self.urls[0]).name


@dataclass(frozen=True)
class Dataset:
    """A public data set."""

    sources: tuple[Source, ...]
    licence: str


def _mnist(name: str, sha256: str, size: int) -> Source:
    # The two mirrors that torchvision and TensorFlow Datasets use; the authors' own server refuses downloads.
    mirrors = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
    return Source(tuple(f"{m}/{name}" for m in mirrors), sha256, size)


_ETT = "https://raw.githubusercontent.com/zhouhaoyi/ETDataset/1d16c8f4f943005d613b5bc962e9eeb06058cf07/ETT-small"
# The SHA-256 values are those that several independent public repositories state for these files; of ETT, of the files at that commit.
DATASETS: dict[str, Dataset] = {
    "mnist": Dataset(
        (
            _mnist(
                "train-images-idx3-ubyte.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
                9912422,
            ),
            _mnist(
                "train-labels-idx1-ubyte.gz", "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28881
            ),
            _mnist(
                "t10k-images-idx3-ubyte.gz", "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1648877
            ),
            _mnist(
                "t10k-labels-idx1-ubyte.gz", "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4542
            ),
        ),
        "commonly stated as CC BY-SA 3.0; Y. LeCun, C. Cortes",
    ),
    "cifar10": Dataset(
        (
            Source(  # the binary version: the other one is pickle, which runs code when it is read
                ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
                "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                170052171,
                tuple(  # 10,000 records of a label byte and 3 x 32 x 32 pixels
                    (f"cifar-10-batches-bin/{name}.bin", 10_000 * 3073)
                    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch")
                ),
            ),
        ),
        "none stated; A. Krizhevsky asks to cite 'Learning Multiple Layers of Features from Tiny Images', 2009",
    ),
    "ett": Dataset(
        tuple(
            Source((f"{_ETT}/{name}.csv",), sha256, size)
            for name, sha256, size in (
                ("ETTh1", "f18de3ad269cef59bb07b5438d79bb3042d3be49bdeecf01c1cd6d29695ee066", 2589657),
                ("ETTh2", "a3dc2c597b9218c7ce1cd55eb77b283fd459a1d09d753063f944967dd6b9218b", 2417960),
            )
        ),
        "CC BY-ND 4.0; Zhou et al., 'Informer', AAAI 2021",
    ),
}


def cache_folder() -> Path:
    """$EDGEKIT_CACHE, else ~/.cache/edgekit."""
    return Path(os.environ.get("EDGEKIT_CACHE") or Path.home() / ".cache" / "edgekit")


def folder(name: str) -> Path | None:
    """Where a data set lies: $EDGEKIT_DATA/<name>, else <cache>/data/<name>; None when in neither."""
    own = os.environ.get("EDGEKIT_DATA")
    places = [Path(own) / name] if own else []
    return next((p for p in (*places, cache_folder() / "data" / name) if p.is_dir()), None)


def require(name: str) -> Path:
    """Where a data set lies; EdgekitError, saying how to get it, when it is not on this machine."""
    found = folder(name)
    if found is None:
        fetched = f", or run `edgekit data fetch {name}`" if name in DATASETS else ""
        raise EdgekitError(f"no data set '{name}' on this machine; set EDGEKIT_DATA to a folder that holds {name}/{fetched}")
    return found


def fetch(name: str, progress: Progress) -> Path:
    """Download a data set into the cache, unless it is there; its folder.

    Every file is checked against its SHA-256 before it is used. A broken-off download goes on where it stopped; the
    folder appears only when all of it is whole. Raises EdgekitError without a network, Broken for a wrong file.
    """
    if name not in DATASETS:
        raise no_such("data set", name, DATASETS, "'digits' needs no download")
    there = folder(name)
    if there is not None:
        _forget_parts(name)
        return there
    out = cache_folder() / "data" / name
    with lock.new_folder(out), files.mendable(out, only_disk=True):
        return _fetched(name, out, progress)


def _fetched(name: str, out: Path, progress: Progress) -> Path:
    parts = [out.parent / f"{source.name}.part" for source in DATASETS[name].sources]
    for source, part in zip(DATASETS[name].sources, parts, strict=True):
        _download(source, part, name, progress)
    with files.folder_draft(out) as draft:
        for source, part in zip(DATASETS[name].sources, parts, strict=True):
            if source.members:
                _extract(part, source.members, draft)
            else:
                (draft / source.name).write_bytes(part.read_bytes())
    _forget_parts(name)
    return out


def _forget_parts(name: str) -> None:
    """Downloads whose content is in place; those too that a process left which was killed at this point."""
    for source in DATASETS[name].sources:
        with suppress(OSError):
            (cache_folder() / "data" / f"{source.name}.part").unlink(missing_ok=True)


def _download(source: Source, part: Path, name: str, progress: Progress) -> None:
    """Bring `part` to the source's size, from the first mirror that can be reached, and check its hash."""
    reasons = []
    for url in source.urls:
        try:
            _download_from(url, source, part, progress)
        except (OSError, http.client.HTTPException) as error:
            said = "Permission denied" if isinstance(error, PermissionError) else files.what_the_disk_said(error)
            if said:  # another mirror would not help
                raise Unwritable(f"cannot write {part}: {said}; free space, or set EDGEKIT_CACHE to another folder") from None
            reasons.append(f"{url}: {getattr(error, 'reason', None) or error}")
            continue
        if files.sha256_of(part) != source.sha256:
            found = files.sha256_of(part)
            part.unlink()
            raise Broken(
                f"{url} gave a file with SHA-256 {found}, expected {source.sha256}; it was removed: try again, or "
                f"put the {name} files into $EDGEKIT_DATA/{name} yourself"
            )
        return
    raise EdgekitError(
        f"cannot fetch {name} ({'; '.join(reasons)}); connect this machine to a network and run the command again, "
        f"or put the files into $EDGEKIT_DATA/{name} yourself"
    )


def _download_from(url: str, source: Source, part: Path, progress: Progress) -> None:
    have = part.stat().st_size if part.is_file() else 0
    if have > source.size:
        part.unlink()
        have = 0
    if have < source.size:
        request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:
            resumed = have and reply.status == http.HTTPStatus.PARTIAL_CONTENT
            with part.open("ab" if resumed else "wb") as file:
                while chunk := reply.read(CHUNK):
                    file.write(chunk)
                    progress(source.name, min(file.tell(), source.size), source.size)
                    if file.tell() > source.size:
                        break
    have = part.stat().st_size
    if have < source.size:
        raise OSError(f"the connection broke off after {have} of {source.size} bytes; run it again to go on from there")


def _extract(archive: Path, members: tuple[tuple[str, int], ...], out: Path) -> None:
    """Take exactly these regular files, of exactly this size, out of a tar archive; nothing else is looked at."""
    with _readable(archive), tarfile.open(archive, "r:*") as tar:
        for name, size in members:
            try:
                member = tar.getmember(name)
            except KeyError:
                raise Broken(f"{archive} does not hold {name}; fetch it again") from None
            data = tar.extractfile(member) if member.isreg() and member.size == size else None
            if data is None:
                raise Broken(f"{archive}: {name} is not a file of {size} bytes; fetch it again")
            (out / PurePosixPath(name).name).write_bytes(data.read())


@contextmanager
def _readable(archive: Path) -> Iterator[None]:
    try:
        yield
    except (tarfile.TarError, EOFError) as error:
        raise Broken(f"{archive} is not a tar archive ({error}); fetch it again") from None
