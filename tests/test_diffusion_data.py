"""The pictures that diffusion learns from: whole, in range, split without overlap, and conditions that agree with the pixels."""

from __future__ import annotations

import csv
import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from edgekit import data
from edgekit.errors import Broken, EdgekitError
from edgekit.models._diffusion import data as diffusion
from edgekit.models._diffusion.data import Pictures, Split, pictures


def parts(split: Split) -> tuple[Pictures, Pictures, Pictures]:
    return split.train, split.validation, split.test


def there(name: str) -> Split:
    if data.folder(name) is None:
        pytest.skip(f"no data set '{name}' on this machine")
    return pictures(name)


def holds_together(split: Split) -> None:
    """Shapes, types, range and conditions; no picture is in two parts."""
    seen: set[bytes] = set()
    for part in parts(split):
        assert part.images.dtype == np.float32 and part.conditions.dtype == np.int64
        assert part.images.min() >= -1 and part.images.max() <= 1 and np.ptp(part.images) > 1.8
        assert part.conditions.shape == (len(part), len(part.heads)) and len(part.heads) == len(part.values)
        assert part.conditions.min() >= 0 and (part.conditions < part.sizes).all()
        own = {image.tobytes() for image in part.images}
        assert not own & seen
        seen |= own


def test_the_digits_are_all_of_them_once_with_their_labels() -> None:
    split = pictures("digits")
    holds_together(split)
    assert [len(p) for p in parts(split)] == [1085, 357, 355] and split.train.images.shape[1:] == (1, 8, 8)
    source = load_digits()
    expected = {(x / 8 - 1).astype(np.float32).tobytes(): y for x, y in zip(source.images, source.target, strict=True)}
    found = {x.tobytes(): y for p in parts(split) for x, y in zip(p.images, p.conditions[:, 0], strict=True)}
    assert found == expected
    assert pictures("digits") is split  # read once


def test_the_split_is_the_same_in_every_release() -> None:
    """A checkpoint of last year must not have trained on this year's test pictures."""
    train, validation, test = diffusion.dealt(10, (5, 3, 2))
    assert (train.tolist(), validation.tolist(), test.tolist()) == ([0, 4, 6, 7, 8], [2, 3, 9], [1, 5])
    assert np.concatenate(diffusion.dealt(4000, (3000, 500, 500))).sum() == 4000 * 3999 // 2
    with pytest.raises(Broken, match="found 11"):
        diffusion.dealt(11, (5, 3, 2))


def test_mnist_is_halved_by_means(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Against files made here: 12,000 training and 1,000 test images, the second as large as the rule for the split asks."""
    rng = np.random.default_rng(0)
    (tmp_path / "mnist").mkdir()
    made = {}
    for start, count in (("train12k", 12_000), ("t10k", 1_000)):
        images, labels = rng.integers(0, 256, (count, 28, 28)).astype(np.uint8), (np.arange(count) % 10).astype(np.uint8)
        images[:, :10, :10] = 255  # a corner that shows the padding
        made[start] = images
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
            (tmp_path / "mnist" / f"{start}-{kind}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes(), 1))
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    split = diffusion._mnist()
    assert [p.images.shape for p in parts(split)] == [(10_000, 1, 16, 16), (1_000, 1, 16, 16), (1_000, 1, 16, 16)]
    assert (split.test.images[:, 0, 1:6, 1:6] == 1).all() and (split.test.images[:, 0, 0] == -1).all()
    mean = made["t10k"][5, 26:28, 4:6].astype(float).mean()  # rows 28, 29 of the padded image
    assert split.test.images[5, 0, 14, 3] == pytest.approx(mean / 127.5 - 1, abs=1e-6)
    assert split.test.conditions[:12, 0].tolist() == [*range(10), 0, 1]


def test_avatars_lose_nothing_and_their_attributes_are_those_of_the_table() -> None:
    split = there("avatars")
    holds_together(split)
    assert [len(p) for p in parts(split)] == [3000, 500, 500] and split.train.sizes == (2, 2, 2, 2, 2, 8, 11, 12)
    place = data.require("avatars")
    with Image.open(place / "pixel_32.webp") as image:
        atlas = np.asarray(image.convert("RGB"))
    with (place / "pixel.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    known = {}
    for i, row in enumerate(rows[:600]):
        tile = atlas[i // 40 * 32 :, i % 40 * 32 :][:32, :32]
        assert (tile == tile[::2, ::2].repeat(2, 0).repeat(2, 1)).all()  # the whole picture is in every second pixel
        known[(tile[::2, ::2].transpose(2, 0, 1) / np.float32(127.5) - 1).astype(np.float32).tobytes()] = row
    found = 0
    for part in parts(split):
        for image, condition in zip(part.images, part.conditions, strict=True):
            row = known.get(image.tobytes())
            if row is None:
                continue
            found += 1
            said = {h: v[c] for h, v, c in zip(part.heads, part.values, condition, strict=True)}
            assert said == {
                "glasses": "yes" if row["glasses"] else "no", "hat": "yes" if row["hat"] else "no", "beard": "yes" if row["beard"] else "no",
                "long hair": "yes" if "long" in row["hair"] else "no", "happy mouth": "yes" if "happy" in row["mouth"] else "no",
                "skin": row["skinColor"], "hair colour": row["hairColor"], "clothing colour": row["clothingColor"],
            }  # fmt: skip
    assert found == 600


def test_the_drawings_of_one_emoji_stay_in_one_part_and_blank_ones_are_left_out() -> None:
    split = there("emoji")
    holds_together(split)
    with (data.require("emoji") / "emoji.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    styles = diffusion.EMOJI_STYLES
    for chosen, part in zip(diffusion.dealt(len(rows), diffusion.PARTS["emoji"]), parts(split), strict=True):
        drawn = [(s, rows[i]["group"]) for i in chosen for s in styles if rows[i][f"has_{s}"] == "1"]
        found = iter([(part.values[0][c[0]], part.values[1][c[1]]) for c in part.conditions])
        one = next(found)
        repeats = 0  # drawings that another emoji has too, which stand once
        for told in drawn:
            if told == one:
                one = next(found, ("", ""))
            else:
                repeats += 1
        assert one == ("", "") and repeats == len(drawn) - len(part) <= 35
        assert np.ptp(part.images.reshape(len(part), -1), axis=1).min() > 0.05  # none is blank
    assert split.train.images.shape[1:] == (3, 16, 16) and split.train.sizes == (4, 9)


def test_what_is_not_there_or_damaged_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    with pytest.raises(EdgekitError, match="no pictures 'faces'; there are: avatars, digits, emoji, mnist"):
        pictures("faces")
    place = tmp_path / "avatars"
    columns = ["index", *(c for _, c, _ in diffusion.AVATAR_PARTS), *(c for _, c in diffusion.AVATAR_COLOURS)]
    with pytest.raises(EdgekitError, match="no data set 'avatars'"):
        diffusion._avatars()
    place.mkdir()
    with pytest.raises(EdgekitError, match=r"has no pixel\.csv"):
        diffusion._avatars()
    (place / "pixel.csv").write_text("index,glasses\n0,\n")
    with pytest.raises(Broken, match="no column hat, beard"):
        diffusion._avatars()
    (place / "pixel.csv").write_text(",".join(columns) + "\n" + ",".join("0" * len(columns)) + "\n")
    with pytest.raises(EdgekitError, match=r"has no pixel_32\.webp"):
        diffusion._avatars()
    (place / "pixel_32.webp").write_bytes(b"RIFF")
    with pytest.raises(Broken, match="is not a WebP picture"):
        diffusion._avatars()
    Image.new("RGB", (64, 32)).save(place / "pixel_32.webp")
    with pytest.raises(Broken, match=r"has \(64, 32\) pixels, 1 tiles take \(1280, 32\)"):
        diffusion._avatars()
