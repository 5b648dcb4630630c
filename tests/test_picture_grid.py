"""Pictures as a PNG grid: Pillow reads back each pixel, from Python and from the C++ runner alike."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from PIL import Image
from toy_bundles import bundle, graph, tensor

from edgekit import picture_grid
from edgekit.bundle import Bundle, Golden
from edgekit.errors import EdgekitError
from edgekit.program import once
from edgekit.runtimes import _cpp_build, cpp
from edgekit.signature import Signature


def opened(data: bytes) -> np.ndarray:
    """What Pillow sees: uint8 (height, width, channels); it checks every CRC and the checksum of the data."""
    with Image.open(io.BytesIO(data)) as image:
        image.verify()
    with Image.open(io.BytesIO(data)) as image:
        assert image.format == "PNG" and image.mode in ("L", "RGB")
        return np.atleast_3d(np.asarray(image))


def pictures(count: int, channels: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(count).uniform(-1.2, 1.2, (count, channels, height, width)).astype(np.float32)


@pytest.mark.parametrize(
    ("shape", "columns", "across", "factor"),
    [((5, 1, 8, 8), 0, 3, 8), ((6, 3, 16, 16), 4, 4, 4), ((1, 3, 100, 70), 0, 1, 1), ((2, 1, 9, 30), 9, 2, 2)],
)
def test_pillow_finds_every_pixel_enlarged_and_in_its_place(shape: tuple[int, int, int, int], columns: int, across: int, factor: int) -> None:
    images = pictures(*shape)
    found = opened(picture_grid.as_png(picture_grid.grid(images, columns)))
    _, channels, height, width = shape
    left = np.ones(found.shape[:2], bool)
    for i, image in enumerate(images):
        y, x = 2 + i // across * (factor * height + 2), 2 + i % across * (factor * width + 2)
        place = (slice(y, y + factor * height), slice(x, x + factor * width))
        tile = found[place]
        left[place] = False
        for dy in range(factor):
            for dx in range(factor):
                np.testing.assert_allclose(tile[dy::factor, dx::factor].transpose(2, 0, 1), (image.clip(-1, 1) + 1) * 127.5, atol=0.51)
    assert found.shape[2] == channels and set(found[left].ravel()) <= {128}
    assert found.shape[0] == 2 + -(-len(images) // across) * (factor * height + 2)


def test_ends_of_the_range_are_black_and_white() -> None:
    made = picture_grid.grid(np.array([-9, -1, 0, 1, 9], np.float32).reshape(1, 1, 1, 5))
    assert made[2, 2:-2:12, 0].tolist() == [0, 0, 128, 255, 255]


def test_what_is_no_picture_is_refused_in_one_sentence() -> None:
    good = pictures(2, 3, 4, 4)
    for wrong, says in (
        (good.astype(np.float64), "float64"), (good[:, :2], r"\[2, 2, 4, 4\]"), (good[0], r"\[3, 4, 4\]"), (good[:0], r"\[0, 3, 4, 4\]"),
        (np.where(good == good, np.float32("nan"), good), "not finite"), (np.zeros((20_000, 1, 64, 300), np.float32), "too large"),
    ):  # fmt: skip
        with pytest.raises(EdgekitError, match=says):
            picture_grid.grid(wrong)


def test_the_size_is_read_from_the_file_and_other_files_are_refused(tmp_path: Path) -> None:
    picture_grid.write_png(tmp_path / "p.png", picture_grid.grid(pictures(3, 1, 8, 8), 3))
    assert picture_grid.size_of_png((tmp_path / "p.png").read_bytes()) == (200, 68)
    with pytest.raises(EdgekitError, match="no PNG"):
        picture_grid.size_of_png(b"\x89PNG")


@pytest.fixture(scope="module")
def doubled(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """image = 2 x, and two numbers a picture that are no picture."""
    x, image, numbers = tensor("x", "batch", 3, 4, 6), tensor("image", "batch", 3, 4, 6), tensor("numbers", "batch", 3, 4, 6, dtype="float64")
    nodes = [helper.make_node("Add", ["x", "x"], ["image"]), helper.make_node("Cast", ["x"], ["numbers"], to=11)]
    made = graph((x,), (image, numbers), nodes)
    golden = Golden({"x": pictures(2, 3, 4, 6)}, {"image": 2 * pictures(2, 3, 4, 6), "numbers": pictures(2, 3, 4, 6).astype(np.float64)})
    signature = Signature((x,), (image, numbers))
    return bundle(tmp_path_factory.mktemp("doubled") / "b", {"main": made}, signature, once(("x",), ("image", "numbers")), golden=golden)


def python_run(made: Bundle, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "edgekit", "run", made.folder, *map(str, arguments)], capture_output=True, text=True, check=False)


def cpp_run(made: Bundle, *arguments: object) -> subprocess.CompletedProcess[str]:
    runner = _cpp_build.runner(cpp.NATIVE)
    if runner is None:
        pytest.skip("the C++ runner is not built from these sources: run `edgekit setup cpp`")
    command = [runner, made.folder, "--library", _cpp_build.onnxruntime_folder(), *arguments]
    return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, env={**os.environ, "EDGEKIT_PYTHON": sys.executable})


def test_the_run_command_writes_pictures_beside_the_answers(doubled: Bundle, tmp_path: Path) -> None:
    x = pictures(7, 3, 4, 6)
    np.savez(tmp_path / "x.npz", x=x)
    done = python_run(doubled, "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz", "--output", f"image={tmp_path / 'p.png'}", "--columns", 2)
    assert done.returncode == 0, done.stderr
    assert "y.npz" in done.stdout and "p.png" in done.stdout
    np.testing.assert_array_equal(opened((tmp_path / "p.png").read_bytes()), picture_grid.grid(x + x, 2))
    with np.load(tmp_path / "y.npz") as answers:
        np.testing.assert_array_equal(answers["image"], x + x)
    only = python_run(doubled, "--input", tmp_path / "x.npz", "--output", tmp_path / "only.png", "--columns", 2)  # float64 is no picture
    assert only.returncode == 0 and (tmp_path / "only.png").read_bytes() == (tmp_path / "p.png").read_bytes(), only.stderr
    for wrong, says in (("numbers=p.png", "'numbers': a PNG holds"), ("picture=p.png", "no output 'picture'")):
        failed = python_run(doubled, "--input", tmp_path / "x.npz", "--output", wrong)
        assert failed.returncode == 2 and says in failed.stderr and "Traceback" not in failed.stderr, failed.stderr


def test_the_cpp_runner_writes_the_same_pixels(doubled: Bundle, tmp_path: Path) -> None:
    x = pictures(300, 3, 4, 6)  # more than one stored block
    x[0, 0, 0, :4] = (-0.5, 0.5, 0.0, -0.0)
    np.save(tmp_path / "x.npy", x)
    for columns in (0, 7, 4000):
        done = cpp_run(doubled, "--input", tmp_path / "x.npy", "--output", f"image={tmp_path / 'p.png'}", "--columns", columns)
        assert done.returncode == 0, done.stderr
        np.testing.assert_array_equal(opened((tmp_path / "p.png").read_bytes()), picture_grid.grid(x + x, columns))
    for wrong, says in (
        (("--output", "numbers=p.png"), "'numbers': a PNG holds pictures float32 [batch, 1 or 3, height, width] in -1..1, found float64 [300, 3, 4, 6]"),
        (("--output", "image=p.jpg"), "--output takes .safetensors, .npy, .wav or .png"), (("--columns", "-1"), "--columns takes a number"),
    ):  # fmt: skip
        failed = cpp_run(doubled, "--input", tmp_path / "x.npy", *wrong)
        assert failed.returncode == 2 and failed.stderr.startswith("error: ") and says in failed.stderr, failed.stderr
