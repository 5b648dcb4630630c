"""Images and where they come from: digits always, packed and official files, a checked download."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgekit import data
from edgekit.errors import EdgekitError
from edgekit.measurement import silent
from edgekit.models._images import load_images


def test_digits_are_split_into_three_parts_that_share_no_image() -> None:
    images = load_images("digits")
    parts = (images.train_images, images.validation_images, images.test_images)
    assert sum(map(len, parts)) == 1797
    assert all(p.dtype == np.uint8 and p.shape[1:] == (1, 8, 8) and p.max() == images.pixel_max == 16 for p in parts)
    assert 340 <= len(images.test_images) <= 380
    counts = np.bincount(images.test_labels, minlength=10)
    assert counts.min() >= 30  # every class is tested
    assert np.array_equal(load_images("digits").test_images, images.test_images)


@pytest.mark.parametrize(("name", "train", "test", "shape"), [("mnist", 12_000, 10_000, (1, 28, 28)), ("cifar10", 8_000, 2_000, (3, 32, 32))])
def test_the_packed_files_of_a_data_folder(name: str, train: int, test: int, shape: tuple[int, ...]) -> None:
    if data.folder(name) is None:
        pytest.skip(f"no data: {name} is not under EDGEKIT_DATA")
    images = load_images(name)
    assert len(images.train_images) + len(images.validation_images) >= train
    assert len(images.test_images) == test and images.test_images.shape[1:] == shape
    assert set(images.test_labels.tolist()) == set(range(10))
    assert images.pixel_max == 255 and images.test_images.max() == 255


def idx(kind: int, array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, kind]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return gzip.compress(head + array.tobytes())


def write_mnist(folder: Path, train: int = 100) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for start, n in (("train", train), ("t10k", 30)):
        (folder / f"{start}-images-idx3-ubyte.gz").write_bytes(idx(3, rng.integers(0, 256, (n, 28, 28)).astype(np.uint8)))
        (folder / f"{start}-labels-idx1-ubyte.gz").write_bytes(idx(1, (np.arange(n) % 10).astype(np.uint8)))


def test_the_official_mnist_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "mnist")
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    images = load_images("mnist")
    assert (len(images.train_images), len(images.validation_images), len(images.test_images)) == (90, 10, 30)


def test_the_official_binary_cifar10_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "cifar10"
    folder.mkdir()
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        records = np.zeros((20, 3073), np.uint8)
        records[:, 0] = np.arange(20) % 10
        records[:, 1:1025] = 200  # red
        (folder / name).write_bytes(records.tobytes())
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    images = load_images("cifar10")
    assert len(images.test_images) == 20
    assert images.test_images[0, 0].min() == 200 and images.test_images[0, 1].max() == 0


@pytest.mark.parametrize("damage", [b"", b"no gzip", gzip.compress(b"\0\0\x08\x03")])
def test_a_damaged_file_is_one_sentence(damage: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(damage)
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    with pytest.raises(EdgekitError, match="t10k-images-idx3-ubyte.gz"):
        load_images("mnist")


def test_missing_data_and_unknown_names_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(EdgekitError, match="edgekit data fetch mnist"):
        load_images("mnist")
    with pytest.raises(EdgekitError, match="there are: cifar10, digits, mnist"):
        load_images("imagenet")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"x" * 5000
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[:100] if "short" in self.path else body)

        def log_message(self, *arguments: object) -> None:
            """Silence."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_address[1]}"
        running.shutdown()
        thread.join()


def test_every_data_set_names_its_checksums_and_its_licence() -> None:
    for name, dataset in data.DATASETS.items():
        assert dataset.licence, name
        for source in dataset.sources:
            assert len(source.sha256) == 64 and int(source.sha256, 16) > 0
    assert len(hashlib.sha256(b"").hexdigest()) == 64


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("EDGEKIT_DATA", raising=False)
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def offer(monkeypatch: pytest.MonkeyPatch, url: str, sha256: str) -> None:
    source = data.Source((url,), sha256, 5000)
    monkeypatch.setitem(data.DATASETS, "mnist", data.Dataset((source,), "none"))


def test_a_download_whose_checksum_is_right_is_kept(server: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, f"{server}/whole.gz", hashlib.sha256(b"x" * 5000).hexdigest())
    folder = data.fetch("mnist", silent)
    assert (folder / "whole.gz").read_bytes() == b"x" * 5000
    assert data.folder("mnist") == folder


@pytest.mark.parametrize(("path", "sha256"), [("whole.gz", "0" * 64), ("short.gz", hashlib.sha256(b"x" * 5000).hexdigest())])
def test_a_wrong_checksum_or_a_broken_off_download_keeps_nothing(
    path: str, sha256: str, server: str, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, f"{server}/{path}", sha256)
    with pytest.raises(EdgekitError, match=path):
        data.fetch("mnist", silent)
    assert data.folder("mnist") is None


def test_without_a_network_fetch_says_so_and_keeps_nothing(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "http://127.0.0.1:9/nobody.gz", "0" * 64)
    with pytest.raises(EdgekitError, match="nobody.gz"):
        data.fetch("mnist", silent)
    assert data.folder("mnist") is None
