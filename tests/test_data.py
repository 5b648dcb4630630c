"""Data sets: what is fetched is checked, what is loaded is split fairly, what is missing or damaged says what to do."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import struct
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekit import data
from edgekit.errors import Broken, EdgekitError
from edgekit.images import Images, load_images
from edgekit.measurement import silent

OWN = os.environ.get("EDGEKIT_DATA")
PARTS = ("train", "validation", "test")


def sizes(images: Images) -> list[int]:
    return [len(getattr(images, f"{part}_images")) for part in PARTS]


def check_types(images: Images) -> None:
    for part in PARTS:
        x, y = getattr(images, f"{part}_images"), getattr(images, f"{part}_labels")
        assert (x.dtype, y.dtype, x.ndim, len(x)) == (np.uint8, np.int64, 4, len(y))
        assert x.max() <= images.pixel_max
        assert set(np.unique(y)) == set(range(images.classes))


def rows(*parts: np.ndarray) -> list[bytes]:
    return [image.tobytes() for part in parts for image in part]


# Digits


def test_the_digits_are_dealt_out_within_each_class():
    from sklearn.datasets import load_digits

    images = load_images("digits")
    check_types(images)
    assert sum(sizes(images)) == 1797
    assert (images.pixel_max, images.pixel_offset, images.classes) == (16, 8, 10)
    assert np.array(sizes(images)) / 1797 == pytest.approx([0.6, 0.2, 0.2], abs=0.005)
    for label in range(10):
        counts = np.array([(getattr(images, f"{part}_labels") == label).sum() for part in PARTS])
        assert counts / counts.sum() == pytest.approx([0.6, 0.2, 0.2], abs=0.01)
    source = load_digits()
    dealt = rows(images.train_images, images.validation_images, images.test_images)
    assert sorted(dealt) == sorted(rows(source.images.astype(np.uint8)))
    right = {(x.tobytes(), y) for x, y in zip(source.images.astype(np.uint8), source.target, strict=True)}
    assert {(x.tobytes(), y) for x, y in zip(images.test_images, images.test_labels, strict=True)} <= right


def test_the_split_is_the_same_every_time_and_limits_take_a_part_of_it():
    whole, part = load_images("digits"), load_images("digits", (400, 50))
    assert np.array_equal(load_images("digits").test_images, whole.test_images)
    train, validation, test = sizes(part)
    assert (train + validation, test) == (400, 50)
    assert train == pytest.approx(300, abs=10)
    assert np.array_equal(part.train_images, whole.train_images[:train])
    assert np.array_equal(part.validation_images, whole.validation_images[:validation])
    assert np.array_equal(part.test_labels, whole.test_labels[:50])


@pytest.mark.parametrize(
    ("limits", "says"),
    [((5000, 0), "5000 training images of digits were asked for, there are 1442"), ((0, -1), "-1 test images"), ((0, 356), "there are 355")],
)
def test_more_images_than_there_are_are_refused(limits, says):
    with pytest.raises(EdgekitError, match=f"{says}.*"):
        load_images("digits", limits)


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(EdgekitError, match="no images 'mnits'; there are: cifar10, digits, mnist"):
        load_images("mnits")


# The real images, where they are


@pytest.fixture
def own_data() -> Path:
    if not OWN or not all((Path(OWN) / n).is_dir() for n in ("mnist", "cifar10")):
        pytest.skip("EDGEKIT_DATA names no folder with mnist/ and cifar10/")
    return Path(OWN)


def test_the_real_mnist_is_read(own_data):
    images = load_images("mnist")
    check_types(images)
    assert images.test_images.shape == (10000, 1, 28, 28)
    raw = b"\0\0\x08\3" + struct.pack(">3I", 10000, 28, 28) + images.test_images.tobytes()
    # of the unzipped t10k-images-idx3-ubyte, as published
    assert hashlib.sha256(raw).hexdigest() == "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7"
    assert images.test_labels[:8].tolist() == [7, 2, 1, 0, 4, 1, 4, 9]
    train, validation, _ = sizes(images)
    assert validation / (train + validation) == pytest.approx(0.1, abs=0.001)
    assert (images.pixel_max, images.pixel_offset) == (255, 128)


def test_the_real_cifar10_is_read(own_data):
    images = load_images("cifar10", (1000, 200))
    check_types(images)
    assert images.train_images.shape[1:] == (3, 32, 32)
    assert sizes(images) == [900, 100, 200]
    assert np.bincount(images.validation_labels).tolist() == [10] * 10
    # Ships and aeroplanes stand before blue, frogs and deer before green and brown: the channels are in RGB order.
    train = {c: images.train_images[images.train_labels == c].mean((0, 2, 3)) for c in range(10)}
    assert all(train[c][2] > train[c][0] for c in (0, 8))
    assert all(train[c][2] < train[c][0] for c in (4, 6))


# Small files in the published formats


def idx(values: np.ndarray) -> bytes:
    head = bytes((0, 0, 8, values.ndim)) + struct.pack(f">{values.ndim}I", *values.shape)
    return gzip.compress(head + values.tobytes())


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """EDGEKIT_DATA with mnist/ (100 + 20 images) and cifar10/ (5 x 20 + 20), made up."""
    rng = np.random.default_rng(0)
    place = tmp_path / "data"
    (place / "mnist").mkdir(parents=True)
    for name, count in (("train", 100), ("t10k", 20)):
        (place / f"mnist/{name}-images-idx3-ubyte.gz").write_bytes(idx(rng.integers(0, 256, (count, 28, 28), np.uint8)))
        (place / f"mnist/{name}-labels-idx1-ubyte.gz").write_bytes(idx(np.arange(count, dtype=np.uint8) % 10))
    (place / "cifar10").mkdir()
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        records = rng.integers(0, 256, (20, 3073), np.uint8)
        records[:, 0] = np.arange(20) % 10
        (place / f"cifar10/{name}.bin").write_bytes(records.tobytes())
    monkeypatch.setenv("EDGEKIT_DATA", str(place))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return place


def test_the_published_idx_files_are_read(small):
    images = load_images("mnist")
    check_types(images)
    assert sizes(images) == [90, 10, 20]
    raw = gzip.decompress((small / "mnist/train-images-idx3-ubyte.gz").read_bytes())[16:]
    assert rows(images.train_images, images.validation_images) == [raw[i * 784 : (i + 1) * 784] for i in range(100)]
    assert images.validation_labels.tolist() == list(range(10))


def test_the_published_cifar_binary_is_read(small):
    images = load_images("cifar10")
    check_types(images)
    assert sizes(images) == [90, 10, 20]
    raw = (small / "cifar10/data_batch_1.bin").read_bytes()
    green_of_second = raw[3073 + 1 + 1024 : 3073 + 1 + 2048]
    assert images.train_images[1, 1].tobytes() == green_of_second


def test_limits_apply_before_the_validation_part_is_taken(small):
    images = load_images("mnist", (50, 5))
    assert sizes(images) == [50, 0, 5]  # five of each class: a tenth of them is none
    images = load_images("mnist", (100, 5))
    assert sizes(images) == [90, 10, 5]


def test_a_packed_prefix_of_mnist_is_read_where_the_whole_is_not(small):
    for kind in ("images-idx3", "labels-idx1"):
        (small / f"mnist/train-{kind}-ubyte.gz").rename(small / f"mnist/train12k-{kind}-ubyte.gz")
    assert sizes(load_images("mnist")) == [90, 10, 20]


def _write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda place: (place / name).write_bytes(content)


def _pickled(place: Path) -> None:
    for path in (place / "cifar10").iterdir():
        path.unlink()
    for name in ("train", "test"):
        np.savez(place / f"cifar10/cifar10_{name}.npz", jpeg=np.array([{}], object), offsets=[0, 1], labels=[0])


def _no_zip(place: Path) -> None:
    for path in (place / "cifar10").iterdir():
        path.unlink()
    for name in ("train", "test"):
        (place / f"cifar10/cifar10_{name}.npz").write_bytes(b"PK\3\4 nothing")


def _no_jpeg(place: Path) -> None:
    for path in (place / "cifar10").iterdir():
        path.unlink()
    for name in ("train", "test"):
        np.savez(place / f"cifar10/cifar10_{name}.npz", jpeg=np.zeros(9, np.uint8), offsets=[0, 9], labels=[0])


@pytest.mark.parametrize(
    ("name", "harm", "says"),
    [
        ("mnist", _write("mnist/train-images-idx3-ubyte.gz", b"x"), "is not a gzip file"),
        ("mnist", _write("mnist/train-images-idx3-ubyte.gz", gzip.compress(b"x" * 99)), "is not an idx file"),
        ("mnist", _write("mnist/train-images-idx3-ubyte.gz", idx(np.zeros((3, 4, 4), np.uint8))[:-9]), "is not a gzip file"),
        ("mnist", _write("mnist/t10k-labels-idx1-ubyte.gz", gzip.compress(b"\0\0\x08\1\0\0\0\x63ab")), "holds 2 bytes, its header"),
        ("mnist", _write("mnist/t10k-labels-idx1-ubyte.gz", idx(np.zeros(3, np.uint8))), "20 images have 3 labels"),
        ("mnist", _write("mnist/t10k-labels-idx1-ubyte.gz", idx(np.full(20, 77, np.uint8))), "a label 77, but ten classes"),
        ("cifar10", _write("cifar10/test_batch.bin", b"x" * 3074), "no whole records of 3073"),
        ("cifar10", _write("cifar10/test_batch.bin", b"\x0b" * 3073), "a label 11, but ten classes"),
        ("cifar10", _pickled, "is not an archive of 32x32 JPEG images .*allow_pickle"),
        ("cifar10", _no_zip, "is not an archive of 32x32 JPEG images"),
        ("cifar10", _no_jpeg, "is not an archive of 32x32 JPEG images"),
    ],
)
def test_a_damaged_file_is_refused(small, name, harm, says):
    harm(small)
    with pytest.raises(Broken, match=says):
        load_images(name)


@pytest.mark.parametrize(
    ("name", "gone", "says"),
    [("mnist", "t10k-labels-idx1-ubyte.gz", "has no t10k-labels"), ("cifar10", "data_batch_3.bin", "has neither data_batch_1..5.bin")],
)
def test_an_incomplete_folder_says_what_is_missing(small, name, gone, says):
    (small / name / gone).unlink()
    with pytest.raises(EdgekitError, match=says):
        load_images(name)


@pytest.mark.parametrize("name", ["mnist", "cifar10"])
def test_missing_images_say_how_to_get_them(tmp_path, monkeypatch, name):
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "a"))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "b"))
    with pytest.raises(EdgekitError, match=f"set EDGEKIT_DATA to a folder that holds {name}/, or run `edgekit data fetch {name}`"):
        load_images(name)


def test_the_own_folder_comes_before_the_cache(small):
    assert data.folder("mnist") == small / "mnist"
    assert data.folder("cifar100") is None


# Fetching, from a server on this machine


class Server(ThreadingHTTPServer):
    """Serves `bodies` by path. `cut` breaks the next reply off after so many bytes; `asked` holds the Range of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: dict[str, bytes] = {}
        self.cut: int | None = None
        self.ranges = True
        self.asked: list[str | None] = []

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        wanted = self.headers.get("Range")
        self.server.asked.append(wanted)
        body = self.server.bodies.get(self.path.strip("/"))
        if body is None:
            self.send_error(404, "not here")
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and self.server.ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start : self.server.cut])
        self.server.cut = None

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache and no own folder."""
    monkeypatch.delenv("EDGEKIT_DATA", raising=False)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def source(body: bytes, *urls: str, members: tuple[tuple[str, int], ...] = ()) -> data.Source:
    return data.Source(urls, hashlib.sha256(body).hexdigest(), len(body), members)


BODY = bytes(range(256)) * 40


@pytest.fixture
def one(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The data set `one` with the file one.bin; where it will lie."""
    server.bodies["one.bin"] = BODY
    monkeypatch.setitem(data.DATASETS, "one", data.Dataset((source(BODY, server.url("one.bin")),), "none"))
    return cache / "data" / "one"


def test_a_fetched_data_set_is_whole_and_fetched_once(one, server):
    calls = []
    assert data.fetch("one", lambda *call: calls.append(call)) == one == data.folder("one")
    assert (one / "one.bin").read_bytes() == BODY
    assert calls[-1] == ("one.bin", len(BODY), len(BODY))
    assert [p.name for p in one.parent.iterdir()] == ["one"]
    data.fetch("one", silent)
    assert server.asked == [None]


def test_a_file_with_another_hash_is_refused_and_removed(one, server):
    server.bodies["one.bin"] = b"x" * len(BODY)
    with pytest.raises(Broken, match=r"one.bin gave a file with SHA-256 \w{64}, expected \w{64}; it was removed"):
        data.fetch("one", silent)
    assert not list(one.parent.glob("*"))
    server.bodies["one.bin"] = BODY
    data.fetch("one", silent)
    assert (one / "one.bin").read_bytes() == BODY


def test_a_file_that_is_longer_than_it_should_be_is_refused(one, server):
    server.bodies["one.bin"] = BODY * 3
    with pytest.raises(Broken, match="gave a file with SHA-256"):
        data.fetch("one", silent)
    assert data.folder("one") is None


@pytest.mark.parametrize("ranges", [True, False], ids=["server resumes", "server starts again"])
def test_a_download_that_broke_off_goes_on(one, server, ranges):
    server.cut, server.ranges = 1000, ranges
    with pytest.raises(EdgekitError, match=r"cannot fetch one .*broke off after 1000 of 10240 bytes; run it again"):
        data.fetch("one", silent)
    assert data.folder("one") is None
    data.fetch("one", silent)
    assert server.asked == [None, "bytes=1000-"]
    assert (one / "one.bin").read_bytes() == BODY


def test_the_second_mirror_is_asked_when_the_first_fails(server, cache, monkeypatch):
    server.bodies["b/two.bin"] = BODY
    urls = (server.url("a/two.bin"), server.url("b/two.bin"))
    monkeypatch.setitem(data.DATASETS, "two", data.Dataset((source(BODY, *urls),), "none"))
    assert (data.fetch("two", silent) / "two.bin").read_bytes() == BODY


def test_without_a_network_every_mirror_and_its_reason_are_named(server, cache, monkeypatch):
    closed = "http://127.0.0.1:1/x.bin"
    monkeypatch.setitem(data.DATASETS, "far", data.Dataset((source(BODY, server.url("x.bin"), closed),), "none"))
    with pytest.raises(EdgekitError, match=r"cannot fetch far \(http.*: not here; http://127.0.0.1:1/x.bin: .*refused.*connect this machine"):
        data.fetch("far", silent)


def archive(*entries: tuple[str, bytes], link: str = "") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in entries:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo(link)
            info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            tar.addfile(info)
    return out.getvalue()


@pytest.fixture
def packed(server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Path]:
    """Fetch an archive of which in/a.bin, of 5 bytes, is wanted."""

    def fetch(body: bytes) -> Path:
        server.bodies["all.tar.gz"] = body
        wanted = source(body, server.url("all.tar.gz"), members=(("in/a.bin", 5),))
        monkeypatch.setitem(data.DATASETS, "packed", data.Dataset((wanted,), "none"))
        return data.fetch("packed", silent)

    return fetch


def test_only_the_wanted_members_are_taken_out_of_an_archive(packed, cache):
    place = packed(archive(("in/a.bin", b"12345"), ("../../evil.bin", b"x"), ("in/code.pkl", b"y")))
    assert {p.name: p.read_bytes() for p in place.iterdir()} == {"a.bin": b"12345"}
    assert not list(cache.parent.rglob("evil.bin"))


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (archive(("in/b.bin", b"12345")), "does not hold in/a.bin"),
        (archive(("in/a.bin", b"123456")), "in/a.bin is not a file of 5 bytes"),
        (archive(link="in/a.bin"), "in/a.bin is not a file of 5 bytes"),
        (b"no archive", "is not a tar archive"),
    ],
)
def test_an_archive_without_the_wanted_members_is_refused(packed, body, says):
    with pytest.raises(Broken, match=says):
        packed(body)
    assert data.folder("packed") is None


def test_an_unknown_data_set_lists_the_known_ones(cache):
    with pytest.raises(EdgekitError, match="no data set 'imagenet'; there are: cifar10, ett, mnist; 'digits' needs no download"):
        data.fetch("imagenet", silent)


@pytest.mark.skipif(data.folder("ett") is None, reason="no data: ett")
def test_the_hashes_of_ett_are_those_of_the_files():
    folder = data.require("ett")
    for source in data.DATASETS["ett"].sources:
        packed = folder / f"{source.name}.gz"
        body = gzip.decompress(packed.read_bytes()) if packed.is_file() else (folder / source.name).read_bytes()
        assert (len(body), hashlib.sha256(body).hexdigest()) == (source.size, source.sha256)


def test_every_source_is_of_https_and_no_source_is_pickled():
    for name, dataset in data.DATASETS.items():
        assert dataset.licence
        for s in dataset.sources:
            assert len(s.sha256) == 64
            assert all(url.startswith("https://") for url in s.urls), name
            assert len({Path(url).name for url in s.urls}) == 1
            assert "python" not in s.name
