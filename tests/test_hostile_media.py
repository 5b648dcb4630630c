"""Sounds, pictures, NIR files, checkpoints and trainings as an attacker writes them: found by fuzzing or by reading, each one sentence now."""

from __future__ import annotations

import io
import json
import os
import re
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
import random_nets
from PIL import Image

from edgekit import flow, machine_code, nir_file, sound, target, training_state, untrusted_nir
from edgekit.checkpoint import save_checkpoint
from edgekit.errors import Broken, EdgekitError
from edgekit.picture_file import read_picture
from edgekit.run_folder import read_run
from edgekit.spiking_net import simulate
from edgekit.sweep import plan
from edgekit.untrusted_process import Child


# --- pictures ---
def gif(frames: int = 3, size: tuple[int, int] = (8, 8)) -> bytes:
    made = io.BytesIO()
    pictures = [Image.fromarray(np.full(size, 40 * (i % 6), np.uint8)) for i in range(frames)]
    pictures[0].save(made, "GIF", save_all=True, append_images=pictures[1:], duration=50)
    return made.getvalue()


def test_gifs_that_end_early_are_one_sentence(tmp_path: Path):
    """Found by fuzzing: Pillow raised an IndexError at some of the places where such a file may end."""
    whole, refused = gif(), 0
    for size in range(len(whole)):
        (tmp_path / "p.gif").write_bytes(whole[:size])
        try:
            read_picture(tmp_path / "p.gif", 1, 8, 8)
        except EdgekitError as error:
            refused += 1
            assert str(tmp_path / "p.gif") in str(error)
    assert refused > len(whole) // 2


def test_a_small_file_cannot_ask_for_hours(tmp_path: Path):
    """8,192 x 8,192 pixels are taken once, and not 4,096 times; the file has 3 kB."""
    whole = bytearray(gif(300))
    whole[6:10] = struct.pack("<HH", 8192, 8192)  # of the screen that frames are drawn on
    (tmp_path / "p.gif").write_bytes(whole)
    with pytest.raises(EdgekitError, match=r"more than 268,435,456 pixels in all its frames"):
        read_picture(tmp_path / "p.gif", 1, 8, 8)


def test_other_formats_and_pipes_are_no_pictures(tmp_path: Path):
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / "p.png", "TIFF")
    with pytest.raises(EdgekitError, match="no picture that can be read"):
        read_picture(tmp_path / "p.png", 1, 4, 4)
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(EdgekitError, match="no regular file"):
        read_picture(tmp_path / "pipe.png", 1, 4, 4)


def test_odd_exif_prints_no_warning(tmp_path: Path):
    """Found by fuzzing: Pillow warned of EXIF that ends too early, beside the one line that is promised."""
    exif, made = Image.Exif(), io.BytesIO()
    exif[0x0112], exif[0x010E] = 1, "x" * 60
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(made, "PNG", exif=exif)
    whole = bytearray(made.getvalue())
    at = whole.index(b"x" * 60)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for cut in range(0, 60, 7):
            (tmp_path / "p.png").write_bytes(whole[:at] + whole[at + cut :])
            with pytest.raises(EdgekitError) if cut else warnings.catch_warnings():
                read_picture(tmp_path / "p.png", 3, 8, 8)
    assert not seen


# --- sounds ---
def wav(samples: bytes = b"\0\0" * 50, *, code: int = 1, channels: int = 1, rate: int = 8000, bits: int = 16) -> bytes:
    head = struct.pack("<HHIIHH", code, channels, rate, rate * channels * bits // 8 & 0xFFFFFFFF, channels * bits // 8, bits)
    body = b"WAVEfmt " + struct.pack("<I", len(head)) + head + b"data" + struct.pack("<I", len(samples)) + samples
    return b"RIFF" + struct.pack("<I", len(body)) + body


@pytest.mark.parametrize(("raw", "says"), [
    (wav(rate=2**31 - 1), "2147483647 samples a second, 1000 to 768000"),  # a filter to 16 kHz would have 4e10 values
    (wav(rate=7), "7 samples a second"),
    (wav(np.full(9, 3e38, np.float32).tobytes(), code=3, bits=32), "far beyond"),  # overflowed, with numpy's warning
    (wav(np.full(9, np.nan, np.float32).tobytes(), code=3, bits=32), "no numbers"),
    (b".snd" + struct.pack(">IIIII", 24, 0xFFFFFFFF, 3, 8000, 1) + bytes(50), "begins otherwise"),  # AU, which the library knows
    (b"FORM" + struct.pack(">I", 60) + b"8SVXVHDR" + struct.pack(">IIIIHBBI", 20, 20, 0, 0, 8000, 1, 0, 65536) + b"BODY" + struct.pack(">I", 20) + bytes(20),
     "holds SVX|no sound file"),
    (b"fLaC" + bytes(40), "no sound file"),
])  # fmt: skip
def test_sounds_that_lie_are_one_sentence(tmp_path: Path, raw: bytes, says: str):
    (tmp_path / "s.wav").write_bytes(raw)
    with pytest.raises(EdgekitError, match=says):
        sound.read_sound(tmp_path / "s.wav", 16000)


def test_a_sound_is_read_and_a_flac_that_promises_an_hour_of_many_channels_is_not(tmp_path: Path):
    import soundfile

    (tmp_path / "s.wav").write_bytes(wav(np.arange(50, dtype="<i2").tobytes()))
    np.testing.assert_array_equal(sound.read_sound(tmp_path / "s.wav", 8000), np.arange(50, dtype=np.float32) / 32768)
    soundfile.write(tmp_path / "s.flac", np.zeros((4096, 8), np.float32), 96000, format="FLAC")
    whole = bytearray((tmp_path / "s.flac").read_bytes())
    whole[21] = whole[21] & 0xF0  # STREAMINFO: the number of samples, 36 bits
    whole[22:26] = struct.pack(">I", 96000 * 3000)
    (tmp_path / "s.flac").write_bytes(whole)
    with pytest.raises(EdgekitError, match=r"288,000,000 samples of 8 channels, 536,870,912 values"):
        sound.read_sound(tmp_path / "s.flac", 16000)


# --- NIR ---
def test_a_strangers_nir_file_is_read_in_the_child_and_is_the_same_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    net, begun, begin = random_nets.network("pooled"), list[bool](), Child._begin
    nir_file.write(net, tmp_path / "n.nir")
    monkeypatch.setattr(Child, "_begin", lambda child: begun.append(True) or begin(child))
    theirs = untrusted_nir.read(tmp_path / "n.nir", "1" * 64)
    assert begun == [True]
    machine_code.remember("1" * 64)
    mine = untrusted_nir.read(tmp_path / "n.nir", "1" * 64)
    assert begun == [True], "one's own is read at once"
    image = random_nets.images(20)
    for name, value in simulate(mine, image).items():
        np.testing.assert_array_equal(simulate(theirs, image)[name], value)
    (tmp_path / "n.nir").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(500))
    with pytest.raises(Broken, match=re.escape(f"{tmp_path / 'n.nir'}: not a NIR file")):
        untrusted_nir.read(tmp_path / "n.nir", "2" * 64)


def test_what_hdf5_can_say_and_a_network_never_does_is_refused(tmp_path: Path):
    import h5py

    def broken(change) -> str:
        nir_file.write(random_nets.network("dense"), tmp_path / "n.nir")
        with h5py.File(tmp_path / "n.nir", "r+") as file:
            change(file["node/nodes/a"])
        with pytest.raises(Broken) as error:
            nir_file.read(tmp_path / "n.nir")
        return str(error.value)

    (tmp_path / "secret").write_bytes(bytes(64))
    assert "link to elsewhere" in broken(lambda node: node.__setitem__("x", h5py.ExternalLink(str(tmp_path / "secret"), "/")))
    assert "link to elsewhere" in broken(lambda node: node.__setitem__("x", h5py.SoftLink("/node")))
    assert "lie in another file" in broken(lambda node: node.create_dataset("x", (4,), "f4", external=[(str(tmp_path / "secret"), 0, 16)]))
    assert "are taken" in broken(lambda node: node.create_dataset("x", (2**40,), "f4", chunks=True))  # 4 TB in a few bytes
    assert "deep" in broken(lambda node: node.__setitem__("x", node.parent))  # a group in itself


def test_a_graph_of_many_ways_takes_no_time(tmp_path: Path):
    """Each of 60 nodes is reached by two: 2^60 ways, which were all walked."""
    import nir

    weight = nir.Linear(weight=np.eye(2, dtype=np.float32))
    nodes = {"in": nir.Input(input_type={"input": np.array([2])}), **{f"{side}{i}": weight for i in range(60) for side in "ab"},
             "out": nir.Output(output_type={"output": np.array([2])})}  # fmt: skip
    edges = [("in", "a0"), ("in", "b0"), ("a59", "out"), ("b59", "out")]
    edges += [(f"{s}{i}", f"{t}{i + 1}") for i in range(59) for s in "ab" for t in "ab"]
    nir.write(tmp_path / "n.nir", nir.NIRGraph(nodes, edges, {}, type_check=False))
    with pytest.raises(EdgekitError, match="inputs, one is needed"):
        nir_file.read(tmp_path / "n.nir")


# --- checkpoints, trainings, targets ---
@pytest.mark.parametrize(("facts", "says"), [({}, "family 'None'"), ({"family": "iir_snn"}, "no checkpoint of 'iir_snn' .KeyError"),
                                             ({"family": "iir_snn", "steps": [1]}, "TypeError"), ({"family": "../iir_snn"}, "family")])  # fmt: skip
def test_facts_that_no_family_wrote_are_one_sentence(tmp_path: Path, facts: dict, says: str):
    import torch

    with pytest.raises(EdgekitError, match=says):
        flow.load_trained(save_checkpoint(tmp_path / "c", torch.nn.Linear(2, 2), facts).folder)


@pytest.mark.parametrize("told", ["[]", '{"deploy": 5}', '{"deploy": "../../etc"}', json.dumps({"deploy": "a" * 300}), "[" * 5000, '{"rows": 5}', '{"rows": [5]}'])
def test_results_of_trainings_that_are_none_are_one_sentence(tmp_path: Path, told: str):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "result.json").write_text(told)
    for read in (flow.load_trained, read_run)[: 1 if "deploy" in told else 2]:  # a report needs no word of what to deploy
        with pytest.raises(EdgekitError, match="result.json|nothing to report"):
            read(tmp_path)


def test_a_state_that_is_nested_without_end_is_one_sentence(tmp_path: Path):
    """It ended in a RecursionError."""
    (tmp_path / "state.json").write_text(json.dumps({"identity": "i"})[:-1] + ', "x": ' + "[" * 100_000)
    with pytest.raises(Broken, match="nested too deep|not JSON"):
        training_state.read(tmp_path, "i")


@pytest.mark.parametrize(("model", "devices"), [('file = "~nobody-here/m.onnx"', ""), (f'checkpoint = "{"a" * 300}"', ""), ('recipe = "t.toml"', f'devices = "{"a" * 300}"')])
def test_paths_of_a_sweep_that_cannot_be_are_one_sentence(tmp_path: Path, model: str, devices: str):
    """They ended in the system's own errors: a user that is not there, a name that is too long."""
    (tmp_path / "t.toml").write_text(f"{devices}\n[[models]]\nname = 'm'\n{model}\n")
    with pytest.raises(EdgekitError, match="does not have|there is no|no fleet file"):
        plan.read(tmp_path / "t.toml")


def test_a_pipe_is_no_target(tmp_path: Path):
    """It was waited for, for ever."""
    os.mkfifo(tmp_path / "t.toml")
    with pytest.raises(EdgekitError, match="no regular file"):
        target.load(tmp_path / "t.toml")

