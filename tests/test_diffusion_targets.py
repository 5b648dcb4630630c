"""What a student is tuned towards: the best by reward, pictures of another style, pictures from a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.errors import EdgekitError
from edgekit.models._diffusion import quality, rewards, targets
from edgekit.models._diffusion.data import Pictures, pictures
from edgekit.models._diffusion.targets import Targets


@pytest.fixture(scope="module")
def digits():
    return pictures("digits")


def as_rows(given: Pictures) -> set[tuple[bytes, int]]:
    return {(image.tobytes(), int(c[0])) for image, c in zip(given.images, given.conditions, strict=True)}


def test_the_best_are_the_ones_that_no_other_picture_is_better_than(digits) -> None:
    found = targets.pictures_of(Targets(best=0.1), digits, rewards.ink)
    rest = as_rows(digits.train) - as_rows(found)
    assert len(found) == int(0.1 * len(digits.train)) and as_rows(found) < as_rows(digits.train)
    assert rewards.ink(found.images).min() >= max(np.frombuffer(image, np.float32).mean(dtype=np.float64) for image, _ in rest)


def test_only_pictures_that_are_asked_for_are_the_best(digits) -> None:
    found = targets.pictures_of(Targets(best=0.5, asked="digit=4"), digits, rewards.ink)
    assert (found.conditions == 4).all() and len(found) == (digits.train.conditions == 4).sum() // 2


def test_another_style_is_learned_under_what_is_asked_for(digits) -> None:
    found = targets.pictures_of(Targets(show="digit=3", asked="digit=8"), digits, rewards.ink)
    shown = digits.train.images[digits.train.conditions[:, 0] == 3]
    assert (found.conditions == 8).all() and np.array_equal(found.images, shown)


def test_a_folder_is_read_in_order_cut_to_the_middle_and_laid_on_white(tmp_path: Path) -> None:
    wide = np.zeros((16, 32, 3), np.uint8)
    wide[:, 8:24] = (255, 0, 0)  # the middle square is red
    Image.fromarray(wide).save(tmp_path / "b.png")
    Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(tmp_path / "a.webp", lossless=True)  # wholly transparent
    checker = np.kron(np.array([[0, 255], [255, 0]], np.uint8), np.ones((1, 1), np.uint8))
    Image.fromarray(np.tile(checker, (8, 8))).save(tmp_path / "c.png")
    (tmp_path / "notes.txt").write_text("no picture")
    found = targets.read_folder(str(tmp_path), 3, 8)
    assert found.shape == (3, 3, 8, 8) and found.dtype == np.float32
    assert (found[0] == 1).all(), "white"
    assert (found[1, 0] == 1).all() and (found[1, 1:] == -1).all(), "red"
    assert np.abs(found[2]).max() <= 1 / 127, "means of black and white"
    grey = targets.read_folder(str(tmp_path), 1, 8)
    assert grey[1, 0, 0, 0] == pytest.approx(2 * 0.299 - 1, abs=0.01), "luma of red (ITU-R BT.601)"


def test_a_photograph_is_turned_as_its_camera_says(tmp_path: Path) -> None:
    image = Image.new("RGB", (32, 32), "black")
    image.paste("white", (0, 0, 32, 16))  # the upper half
    exif = image.getexif()
    exif[0x0112] = 3  # orientation: turned by 180 degrees
    image.save(tmp_path / "a.jpg", exif=exif, quality=100)
    found = targets.read_folder(str(tmp_path), 1, 8)
    assert found[0, 0, 0].max() < -0.9 and found[0, 0, -1].min() > 0.9


def test_a_folder_below_the_data_folder_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "subjects" / "dog").mkdir(parents=True)
    Image.new("L", (8, 8), 128).save(tmp_path / "subjects" / "dog" / "1.png")
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    assert targets.read_folder("subjects/dog", 1, 8).shape == (1, 1, 8, 8)


def test_each_picture_of_a_folder_is_learned_under_every_other_condition(digits, tmp_path: Path) -> None:
    for i in range(3):
        Image.new("L", (8, 8), 100 * i).save(tmp_path / f"{i}.png")
    found = targets.pictures_of(Targets(folder=str(tmp_path), asked="digit=2"), digits, rewards.ink)
    count = (digits.train.conditions == 2).sum()
    assert len(found) == count and (found.conditions == 2).all()
    assert [len(np.unique(found.images[i::3], axis=0)) for i in range(3)] == [1, 1, 1]


def test_what_cannot_be_read_is_said_with_its_path(digits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path / "data"))
    for given, says in (
        (str(tmp_path / "none"), r"no folder '.*none'"), ("none/such", "no folder 'none/such'"), (str(tmp_path), "holds 0 pictures"), ("", "no folder|holds 0"),
    ):  # fmt: skip
        with pytest.raises(EdgekitError, match=says):
            targets.read_folder(given, 1, 8)
    (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing more")
    with pytest.raises(EdgekitError, match=r"x\.png is no picture"):
        targets.read_folder(str(tmp_path), 1, 8)
    for given, says in (("digits=3", "digit=VALUE"), ("digit=ten", "0, 1, 2"), ("3", "digit=VALUE")):
        with pytest.raises(EdgekitError, match=says):
            targets.pair_of(given, digits)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"best": 0.0}, "best is a share"), ({"best": 1.5}, "best is a share"), ({"show": "digit=3"}, "asked must say"),
        ({"show": "a=1", "folder": "b", "asked": "a=2"}, "exclude each other"),
    ],
)  # fmt: skip
def test_targets_that_cannot_be_are_refused(given: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Targets(**given)


def test_likeness_is_the_distance_to_the_nearest_target() -> None:
    net = quality.FeatureNet(1, 8, (10,)).eval()
    rng = np.random.default_rng(0)
    aims, images = (rng.standard_normal((n, 1, 8, 8)).astype(np.float32) for n in (5, 7))
    found = rewards.likeness(net, aims)(images)
    mine, theirs = (quality.features(net, x).astype(np.float64) for x in (images, aims))
    expected = [-min(np.sqrt(((m - t) ** 2).mean()) for t in theirs) for m in mine]
    assert found == pytest.approx(expected, rel=1e-6)
    assert np.abs(rewards.likeness(net, aims)(aims)).max() < 1e-3, "a target is like itself"
