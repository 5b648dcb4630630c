"""Words, pictures and films as inputs and outputs of `edgekit run`, on ONNX Runtime; Pillow reads and writes the files."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from PIL import Image, ImageSequence
from toy_bundles import bundle, graph, tensor

from edgekit import film_file, picture_grid, run_files, run_places
from edgekit.bundle import Bundle
from edgekit.cli import main
from edgekit.errors import EdgekitError
from edgekit.program import once
from edgekit.signature import Signature, Tensor

WORDS = (("cat", "sea lion"), ("red", "light blue", "green"))
CAPTION = Tensor("caption", "int64", ("batch", 2), "", (3, 4), 0, WORDS)
FRAMES = 4


def echo(folder: Path, *inputs: Tensor) -> Bundle:
    """A bundle that gives each input back, as `NAME_back`."""
    outputs = tuple(replace(t, name=f"{t.name}_back") for t in inputs)
    nodes = [helper.make_node("Identity", [t.name], [f"{t.name}_back"]) for t in inputs]
    made = graph(inputs, outputs, nodes)
    return bundle(folder, {"main": made}, Signature(inputs, outputs), once(tuple(t.name for t in inputs), tuple(t.name for t in outputs)))


@pytest.fixture(scope="module")
def all_kinds(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A caption, a grey picture and a film in colour."""
    film = tensor("film", "batch", FRAMES, 3, 5, 6)
    return echo(tmp_path_factory.mktemp("rows") / "b", CAPTION, tensor("picture", "batch", 1, 16, 8), film)


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return echo(tmp_path_factory.mktemp("colour") / "b", tensor("picture", "batch", 3, 8, 8))


def saved(path: Path, pixels: np.ndarray, **how: object) -> Path:
    """uint8 (H, W), (H, W, 3) or (H, W, 4) as a file."""
    Image.fromarray(pixels).save(path, **how)
    return path


def moving(path: Path, frames: np.ndarray, durations: list[int] | int = 125, **how: object) -> Path:
    """uint8 (frames, H, W, 3) as an animated file."""
    first, *rest = (Image.fromarray(f) for f in frames)
    first.save(path, save_all=True, append_images=rest, duration=durations, loop=0, **how)
    return path


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def as_values(pixels: np.ndarray) -> np.ndarray:
    """uint8 (..., H, W, C) as float32 (..., C, H, W)."""
    return np.moveaxis(pixels, -1, -3).astype(np.float32) / np.float32(127.5) - np.float32(1)


@dataclass(frozen=True)
class Done:
    """What a call of the command line printed."""

    returncode: int
    stdout: str
    stderr: str


def run(made: Bundle, *arguments: object) -> Done:
    """`edgekit run` in this process; what a real one adds is a start of two seconds."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.setattr(sys, "argv", ["edgekit", "run", str(made.folder), *map(str, arguments)])
        code = main()
    return Done(code, out.getvalue(), err.getvalue())


def rows(made: Bundle, texts: tuple = (), images: tuple = (), packed: Path | None = None) -> dict[str, np.ndarray]:
    return dict(run_files.read_inputs(made, packed, None, None, texts, tuple(map(str, images))).arrays)


def test_a_run_takes_words_and_pictures_and_tells_words(all_kinds: Bundle, tmp_path: Path) -> None:
    picture, film = noise(16, 8), noise(FRAMES, 5, 6, 3)
    files = ("--image", f"picture={saved(tmp_path / 'p.png', picture)}", "--image", f"film={moving(tmp_path / 'f.webp', film, lossless=True)}")
    done = run(all_kinds, "--text", "red sea lion", "--text", "GREEN", "--text", "", *files, "--output", tmp_path / "y.npz", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["caption_back"]["words"] == ["sea lion, red", "green", ""] and told["caption_back"]["values"] == [[1, 0], [2, 2], [2, 3]]
    assert "words" not in told["picture_back"]
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_array_equal(found["picture_back"], as_values(np.stack([picture[..., None]] * 3)))  # one picture for all three rows
        np.testing.assert_array_equal(found["film_back"], as_values(np.stack([film] * 3)))
    for more in ((), ("--output", tmp_path / "y.npz")):
        plain = run(all_kinds, "--text", "red sea lion", "--text", "", *files, *more)
        assert plain.returncode == 0, plain.stderr
        assert "caption_back int64 [2, 2]\nsea lion, red\n(not given)\n" in plain.stdout and ("[[" in plain.stdout) == (not more)


@pytest.mark.parametrize("seed", range(3))
def test_every_value_of_eight_bits_comes_back_bit_for_bit(colour: Bundle, tmp_path: Path, seed: int) -> None:
    pixels = np.random.default_rng(seed).permutation(192).astype(np.uint8).reshape(8, 8, 3) + np.uint8(64 * seed % 128)
    done = run(colour, "--image", saved(tmp_path / "p.png", pixels), "--output", tmp_path / "q.png")
    assert done.returncode == 0, done.stderr
    back = np.asarray(Image.open(tmp_path / "q.png"))
    np.testing.assert_array_equal(back[2:-2:8, 2:-2:8], pixels)


def test_all_256_values_survive_a_large_picture(tmp_path: Path) -> None:
    made = echo(tmp_path / "b", tensor("picture", "batch", 1, 64, 64))
    pixels = np.arange(4096, dtype=np.int64).reshape(64, 64).astype(np.uint8)
    done = run(made, "--image", saved(tmp_path / "p.png", pixels), "--output", tmp_path / "q.png")
    assert done.returncode == 0, done.stderr
    again = run(made, "--image", saved(tmp_path / "r.png", np.asarray(Image.open(tmp_path / "q.png"))[2:-2, 2:-2]), "--output", tmp_path / "s.png")
    assert again.returncode == 0, again.stderr
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "q.png"))[2:-2, 2:-2], pixels)
    assert (tmp_path / "q.png").read_bytes() == (tmp_path / "s.png").read_bytes()


def test_other_sizes_and_modes_become_what_the_input_takes(colour: Bundle, all_kinds: Bundle, tmp_path: Path) -> None:
    blocks = noise(8, 8, 3)
    large = saved(tmp_path / "l.png", blocks.repeat(5, 0).repeat(5, 1))
    wide = saved(tmp_path / "w.png", np.concatenate([np.full((8, 3, 3), 9, np.uint8), blocks, np.full((8, 3, 3), 9, np.uint8)], 1))  # cut about its middle
    mixed = np.stack([blocks // 2, blocks // 2 + 100])[[0, 1, 0, 1]].transpose(1, 2, 0, 3).reshape(8, 16, 2, 3).transpose(0, 2, 1, 3).reshape(16, 16, 3)
    halved = rows(colour, images=(saved(tmp_path / "m.png", mixed),))["picture"]
    areas = mixed.reshape(8, 2, 8, 2, 3).astype(np.float64).mean((1, 3))
    np.testing.assert_allclose(halved[0], np.moveaxis(areas, -1, 0) / 127.5 - 1, atol=0.51 / 127.5)
    grey = saved(tmp_path / "g.png", blocks[..., 0])
    clear = saved(tmp_path / "c.png", np.dstack([blocks, np.where(blocks[..., 0] < 128, 0, 255).astype(np.uint8)]))
    made = rows(colour, images=(large, wide, grey, clear))["picture"]
    assert made.shape == (4, 3, 8, 8) and made.dtype == np.float32
    np.testing.assert_array_equal(made[0], as_values(blocks))
    np.testing.assert_array_equal(made[1], as_values(blocks))
    np.testing.assert_array_equal(made[2], as_values(blocks[..., :1].repeat(3, 2)))
    np.testing.assert_array_equal(made[3], as_values(np.where(blocks[..., :1] < 128, np.uint8(255), blocks)))  # white where nothing is
    deep = np.linspace(0, 65535, 128).round().astype(np.uint16).reshape(16, 8)
    found = rows(all_kinds, ("",), (f"picture={saved(tmp_path / 'd.png', deep)}",))["picture"][0, 0]
    np.testing.assert_allclose((found + 1) / 2, deep / 65535, atol=0.5 / 255 + 1e-6)
    turned = Image.fromarray(blocks)
    exif = turned.getexif()
    exif[0x0112] = 3  # the camera was upside down
    turned.save(tmp_path / "t.png", exif=exif)
    np.testing.assert_array_equal(rows(colour, images=(tmp_path / "t.png",))["picture"][0], as_values(blocks[::-1, ::-1]))
    jpeg = saved(tmp_path / "j.jpg", np.full((8, 8, 3), 77, np.uint8), quality=95)
    assert np.abs((rows(colour, images=(jpeg,))["picture"] + 1) * 127.5 - 77).max() <= 2


def test_films_come_from_animated_files_and_from_stills(tmp_path: Path) -> None:
    made = echo(tmp_path / "b", tensor("film", "batch", FRAMES, 3, 8, 8))
    one, two = noise(FRAMES, 8, 8, 3, seed=1), noise(FRAMES, 8, 8, 3, seed=2)
    files = [moving(tmp_path / f"{n}.webp", f, lossless=True) for n, f in (("one", one), ("two", two))]
    np.testing.assert_array_equal(rows(made, images=tuple(files))["film"], as_values(np.stack([one, two])))
    stills = [saved(tmp_path / f"{i}.png", f) for i, f in enumerate([*one, *two])]
    np.testing.assert_array_equal(rows(made, images=tuple(stills[:FRAMES]))["film"], as_values(one[None]))
    np.testing.assert_array_equal(rows(made, images=tuple(stills))["film"], as_values(np.stack([one, two])))
    few = moving(tmp_path / "few.webp", one[:3], lossless=True)
    for images, says in (
        ((few,), "'film' takes films of 4 frames, but .*few.webp holds 3 frames; give files of 4 frames, or 4 stills for a film"),
        ((files[0], stills[0]), "0.png holds 1 frame;"), (tuple(stills[:3]), "takes films of 4 frames, but --image gives 3 stills"),
    ):  # fmt: skip
        with pytest.raises(EdgekitError, match=says):
            rows(made, images=images)
    free = echo(tmp_path / "free", tensor("film", "batch", "frames", 3, 8, 8))
    assert rows(free, images=(few,))["film"].shape == (1, 3, 3, 8, 8)
    assert rows(free, images=tuple(stills))["film"].shape == (1, 8, 3, 8, 8)
    with pytest.raises(EdgekitError, match="takes films of 3 frames, but .*one.webp holds 4"):
        rows(free, images=(few, files[0]))


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_frames_that_a_file_keeps_once_are_counted_as_often_as_they_are_shown(tmp_path: Path, suffix: str) -> None:
    made = echo(tmp_path / "b", tensor("film", "batch", 5, 1, 8, 8))
    film = noise(3, 8, 8, 1)[[0, 1, 1, 1, 2]]
    film_file.write_film(tmp_path / f"f{suffix}", film)
    with Image.open(tmp_path / f"f{suffix}") as stored:
        assert stored.n_frames == 3  # else this tests nothing
    np.testing.assert_array_equal(rows(made, images=(tmp_path / f"f{suffix}",))["film"][0], as_values(film))
    long_end = moving(tmp_path / f"e{suffix}", noise(5, 8, 8, 3), [100, 100, 100, 100, 900])  # as many as asked: durations do not matter
    assert rows(made, images=(long_end,))["film"].shape == (1, 5, 1, 8, 8)


def test_rows_are_as_many_or_one_that_is_repeated(all_kinds: Bundle, tmp_path: Path) -> None:
    picture = [f"picture={saved(tmp_path / f'{i}.png', noise(16, 8, seed=i))}" for i in range(3)]
    found = rows(all_kinds, ("red",), tuple(picture))
    assert found["caption"].tolist() == [[2, 0]] * 3 and found["caption"].dtype == np.int64
    with pytest.raises(EdgekitError, match="--text gives 'caption' 2 rows, but --image gives 'picture' 3; give as many, or one"):
        rows(all_kinds, ("red", ""), tuple(picture))
    np.savez(tmp_path / "x.npz", film=np.zeros((2, FRAMES, 3, 5, 6), np.float32))
    found = rows(all_kinds, ("red",), (picture[0],), tmp_path / "x.npz")
    assert {n: len(a) for n, a in found.items()} == {"caption": 2, "picture": 2, "film": 2}
    with pytest.raises(EdgekitError, match="--image gives 'picture' 3 rows, but 'film' has 2"):
        rows(all_kinds, ("red",), tuple(picture), tmp_path / "x.npz")
    short = Tensor("short", "int32", ("batch", 2), "", (2, 4), 0, WORDS)
    single = echo(tmp_path / "s", short, replace(CAPTION, name="one", shape=(2,)), replace(CAPTION, name="three", shape=(3, 2)))
    found = rows(single, ("short=cat red", "one=green", "three=cat"))
    assert found["short"].dtype == np.int32 and found["one"].tolist() == [2, 2] and found["three"].tolist() == [[0, 3]] * 3
    with pytest.raises(EdgekitError, match="'one' is one row, but --text gives 2"):
        rows(single, ("short=cat red", "one=green", "one=red", "three=cat"))
    with pytest.raises(EdgekitError, match="--text gives 'three' 2 rows, but 'three' takes 3"):
        rows(single, ("short=cat red", "one=green", "three=cat", "three=cat"))


def test_what_cannot_be_an_input_is_one_clear_sentence(all_kinds: Bundle, colour: Bundle, tmp_path: Path) -> None:
    good = saved(tmp_path / "p.png", noise(16, 8))
    (tmp_path / "no.png").write_bytes(b"GIF89a")
    (tmp_path / "cut.png").write_bytes(good.read_bytes()[:-40])
    film = moving(tmp_path / "f.gif", noise(3, 8, 8, 3))
    np.savez(tmp_path / "x.npz", caption=np.zeros((1, 2), np.int64))
    for arguments, says in (
        ((), "give --input FILE.npz, --text WORDS for 'caption', --image FILE for 'picture', --image FILE for 'film'"),
        (("--text", "blu"), "'caption' has no word 'blu'; there are: light blue, "),
        (("--image", good), "has the inputs picture, film; say which: --image NAME=..."),
        (("--text", "red", "--input", tmp_path / "x.npz"), "'caption' is given by --text and by another file; give it once"),
        (("--text", "red"), "inputs ['caption'] were given, but this model takes ['caption', 'film', 'picture']"),
        (("--image", f"picture={tmp_path / 'none.png'}"), "no picture at"), (("--image", f"picture={tmp_path / 'no.png'}"), "no.png is no picture that can be read"),
        (("--image", f"picture={tmp_path / 'cut.png'}"), "cut.png is no picture that can be read"), (("--image", f"picture={tmp_path}"), "is a folder, not a picture"),
        (("--image", f"picture={film}"), "f.gif holds 3 frames, but 'picture' takes stills; give one frame of it"),
    ):  # fmt: skip
        failed = run(all_kinds, *arguments)
        assert failed.returncode == 2 and says in failed.stderr and "Traceback" not in failed.stderr, (arguments, failed.stderr)
    with pytest.raises(EdgekitError, match="--text is for an input that has names for its numbers; .* takes picture"):
        rows(colour, ("red",))


def test_small_inputs_are_typed(tmp_path: Path) -> None:
    inputs = tensor("switch", "batch", 1, dtype="int64"), tensor("swap", "batch", 3), tensor("tick", "ticks"), tensor("scale")
    made = echo(tmp_path / "b", *inputs)
    found = run_files.read_inputs(made, None, None, None, values=["switch=3", "swap=0,1,0.5,1*3", "tick=0*20", "scale=-1e-2"]).arrays
    assert found["switch"].dtype == np.int64 and found["switch"].tolist() == [[3], [3]]  # one row, repeated
    assert found["swap"].dtype == np.float32 and found["swap"].tolist() == [[0, 1, 0.5], [1, 1, 1]]
    assert found["tick"].tolist() == [0.0] * 20 and found["scale"].shape == () and found["scale"] == np.float32(-0.01)
    for values, says in (
        (["switch=1.5"], "give whole numbers"), (["swap=1,2"], "2 numbers, but it takes 3 a row"), (["swap=1,,2"], "give numbers"),
        (["sw=1"], "NAME=NUMBERS with one of the inputs switch, swap"), (["tick=0*2000000"], "give numbers"), (["scale=1,2"], "takes 1: []"),
        (["scale=1", "scale=2"], "give it once"), (["switch=1,2", "swap=0*9"], "2 rows, but --value gives 'swap' 3"), (["tick=0*0"], "give numbers"),
    ):  # fmt: skip
        with pytest.raises(EdgekitError) as caught:
            run_files.read_inputs(made, None, None, None, values=values)
        assert says in str(caught.value), caught.value


def film_of(*shape: int) -> np.ndarray:
    return as_values(np.moveaxis(noise(*shape), -3, -1))


def tiles(frame: np.ndarray, count: int, across: int, height: int, width: int) -> np.ndarray:
    """uint8 (count, height, width, C) of an enlarged grid: the middle of each enlarged pixel."""
    factor = max(1, 64 // max(height, width))
    found = []
    for i in range(count):
        y, x = 2 + i // across * (factor * height + 2), 2 + i % across * (factor * width + 2)
        found.append(frame[y : y + factor * height, x : x + factor * width][factor // 2 :: factor, factor // 2 :: factor])
    return np.stack(found)


@pytest.mark.parametrize(("suffix", "channels"), [(".gif", 1), (".webp", 1), (".webp", 3)])
def test_an_animated_grid_shows_every_pixel_of_every_frame(tmp_path: Path, suffix: str, channels: int) -> None:
    made = echo(tmp_path / "b", tensor("film", "batch", 6, channels, 8, 5), tensor("number", "batch"))
    film = film_of(5, 6, channels, 8, 5)
    np.savez(tmp_path / "x.npz", film=film, number=np.zeros(5, np.float32))
    done = run(made, "--input", tmp_path / "x.npz", "--output", tmp_path / f"f{suffix}", "--columns", 3)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / f"f{suffix}") as stored:
        assert stored.n_frames == 6 and stored.info["loop"] == 0
        frames = [(np.asarray(f.convert("RGB")), f.info["duration"]) for f in ImageSequence.Iterator(stored)]
    assert {d for _, d in frames} == ({120} if suffix == ".gif" else {125})
    for k, (frame, _) in enumerate(frames):
        found = as_values(tiles(frame, 5, 3, 8, 5))
        np.testing.assert_array_equal(found, np.broadcast_to(film[:, k], (5, channels, 8, 5)).repeat(3 // channels, 1))
        assert frame[:2].ravel().tolist() == [128] * frame[:2].size


def test_a_gif_in_colour_is_exact_up_to_256_colours_and_near_beyond(tmp_path: Path) -> None:
    few = noise(255, 3)[np.random.default_rng(0).integers(0, 255, (2, 4, 8, 8))]  # and the border
    path = tmp_path / "f.gif"
    film_file.write_film(path, film_file.animation(as_values(few)))
    with Image.open(path) as stored:
        for k, frame in enumerate(ImageSequence.Iterator(stored)):
            np.testing.assert_array_equal(tiles(np.asarray(frame.convert("RGB")), 2, 2, 8, 8), few[:, k])
    ramp = np.stack(np.meshgrid(*[np.linspace(0, 255, n).astype(np.uint8) for n in (32, 32)]), -1)
    smooth = np.stack([np.concatenate([ramp, np.full((32, 32, 1), 60 * k, np.uint8)], -1) for k in range(4)])[None]
    film_file.write_film(path, film_file.animation(as_values(smooth)), 20)
    with Image.open(path) as stored:
        for k, frame in enumerate(ImageSequence.Iterator(stored)):
            pixels = np.asarray(frame.convert("RGB"))
            assert frame.info["duration"] == 50 and set(pixels[:2].ravel()) == {128}  # the border stays grey
            assert np.abs(tiles(pixels, 1, 1, 32, 32)[0].astype(int) - smooth[0, k]).mean() < 8  # 16 planes of a cube in 255 colours


def test_a_png_of_films_has_a_row_for_each(all_kinds: Bundle, tmp_path: Path) -> None:
    film = film_of(2, FRAMES, 3, 5, 6)
    np.savez(tmp_path / "x.npz", film=film, picture=film_of(2, 1, 16, 8))
    arguments = ("--text", "", "--input", tmp_path / "x.npz", "--output", f"film_back={tmp_path / 'f.png'}", "--output", f"picture_back={tmp_path / 'p.gif'}")
    assert run(all_kinds, *arguments).returncode == 0
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "f.png")), picture_grid.grid(film.reshape(-1, 3, 5, 6), FRAMES))
    with Image.open(tmp_path / "p.gif") as stored:
        assert stored.n_frames == 2  # a sequence of pictures is one film


def test_a_place_is_the_only_output_that_fits(all_kinds: Bundle, colour: Bundle, tmp_path: Path) -> None:
    mixed = echo(tmp_path / "b", tensor("film", "batch", "frames", 3, "h", "w"), tensor("wide", "batch", 2, 5, 5), tensor("whole", "batch", 3, 5, 5, dtype="float64"))
    for word in ("f.png", "f.gif", "f.webp"):
        assert run_places.place_of(word, mixed).output == mixed.manifest.signature.outputs[0]
        assert run_places.place_of(f"picture_back={word}", all_kinds) == run_places.Place(Path(word), all_kinds.manifest.signature.outputs[1])
        with pytest.raises(EdgekitError, match="has the outputs picture_back, film_back; say which: NAME=f"):
            run_places.place_of(word, all_kinds)
        with pytest.raises(EdgekitError, match="no output 'x'"):
            run_places.place_of(f"x={word}", colour)
    only_words = echo(tmp_path / "w", CAPTION)
    with pytest.raises(EdgekitError, match="none of the outputs caption_back is a picture or a film, so there is nothing for f.gif"):
        run_places.place_of("f.gif", only_words)
    with pytest.raises(EdgekitError, match="f.mp4 is no file that answers are written to"):
        run_places.place_of("f.mp4", colour)
    assert run_places.place_of("f.npz", all_kinds).output is None
    place = run_places.Place(tmp_path / "f.gif", mixed.manifest.signature.outputs[1])
    with pytest.raises(EdgekitError, match=r"'wide_back': an animation shows float32 .* found float32 \[1, 2, 5, 5\]"):
        place.write({"wide_back": np.zeros((1, 2, 5, 5), np.float32)})
    with pytest.raises(EdgekitError, match="2000 frames of 258 x 258 pixels are too large"):
        film_file.animation(np.zeros((1, 2000, 1, 254, 254), np.float32))


def test_help_reads_no_heavy_library() -> None:
    code = "import sys; from edgekit.cli import main; sys.argv = ['edgekit', 'run', '--help']\nmain()\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "--text [NAME=]WORDS" in done.stdout and not {"numpy", "torch", "PIL", "onnxruntime"} & set(done.stdout.split())


def test_pictures_without_pillow_name_what_to_install(colour: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    for act in (lambda: rows(colour, images=("p.png",)), lambda: film_file.write_film(tmp_path / "f.gif", np.zeros((1, 4, 4, 1), np.uint8))):
        with pytest.raises(EdgekitError, match="not installed here: pip install pillow"):
            act()
    assert not list(tmp_path.iterdir())
