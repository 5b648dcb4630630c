"""A voice made from a sound and given to a stream: by files and by a pipe, in Python and in C++, in time with what was said."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import toy_voice
from onnx import helper
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from toy_bundles import bundle, decay, graph, tensor
from toy_voice import DELAY, HOP, RATE_HZ

from edgekit import flow, registry
from edgekit.bundle import Bundle
from edgekit.parts import Calibrator
from edgekit.program import once
from edgekit.runtimes import _cpp_build, cpp
from edgekit.signature import Signature

Call = Callable[..., subprocess.CompletedProcess[bytes]]
LSB = 1 / 32767


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("voice")


@pytest.fixture(scope="module")
def made(folder: Path) -> Bundle:
    return toy_voice.export(folder)


def runner() -> list[str]:
    built = _cpp_build.runner(cpp.NATIVE)
    if built is None:
        pytest.skip("the C++ runner is not built from these sources: run `edgekit setup cpp`")
    return [str(built), "--library", str(_cpp_build.onnxruntime_folder()), "--threads", "1"]


def call(command: list[str], *arguments: object, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    env = {**os.environ, "EDGEKIT_PYTHON": sys.executable}
    return subprocess.run([*command, *map(str, arguments)], input=stdin, capture_output=True, check=False, env=env, timeout=120)


def python_run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    return call([sys.executable, "-m", "edgekit", "run"], *arguments)


def cpp_run(*arguments: object) -> subprocess.CompletedProcess[bytes]:
    return call(runner(), *arguments)


BOTH = pytest.mark.parametrize("run", [python_run, cpp_run], ids=["python", "cpp"])


def refused(done: subprocess.CompletedProcess[bytes], says: str) -> None:
    told = done.stderr.decode()
    assert done.returncode == 2 and re.search(says, told) and "Traceback" not in told, told
    said = [line for line in told.splitlines() if not line.startswith("note: ")]  # a bundle that was changed by hand is not made here
    assert len(said) == 1 and done.stdout == b"", told


def write(path: Path, samples: np.ndarray, rate_hz: int = RATE_HZ, subtype: str = "PCM_16") -> Path:
    soundfile.write(path, samples.T, rate_hz, subtype=subtype)
    return path


def read(path: Path) -> np.ndarray:
    """float32 (1, samples) of a file that must be mono, 16 bits, at the toy's rate."""
    info = soundfile.info(path)
    assert (info.samplerate, info.channels, info.subtype) == (RATE_HZ, 1, "PCM_16")
    return soundfile.read(path, dtype="float32")[0][None]


@pytest.fixture(scope="module")
def spoken(folder: Path) -> Path:
    return write(folder / "in.wav", toy_voice.noise(5_000))


@pytest.fixture(scope="module")
def target(folder: Path) -> Path:
    return write(folder / "target.wav", toy_voice.noise(16_000, 0.3))


@pytest.fixture(scope="module")
def voice(made: Bundle, folder: Path, target: Path) -> Path:
    done = python_run(made.folder, "--make-voice", target)
    assert done.returncode == 0, done.stderr
    return folder / "target.voice"


def gain_of(voice: Path) -> np.ndarray:
    return load_file(voice)["gain"]


@BOTH
def test_a_voice_is_what_the_preparation_makes_of_a_sound(run: Call, made: Bundle, target: Path, tmp_path: Path):
    heard = write(tmp_path / "a.b.wav", read(target))
    for more, path in (((), tmp_path / "a.b.voice"), (("--output", tmp_path / "other"), tmp_path / "other")):
        done = run(made.folder, "--make-voice", heard, *more)
        assert done.returncode == 0 and str(path).encode() in done.stdout, done.stderr
        assert set(load_file(path)) == {"gain"}
        np.testing.assert_allclose(gain_of(path), toy_voice.loudness(read(target)), rtol=1e-6)
        with safe_open(path, "numpy") as file:
            assert file.metadata() == {"edgekit_voice_of": made.manifest.model.checkpoint_sha256}


@BOTH
@pytest.mark.parametrize("samples", [1, HOP - DELAY, HOP - DELAY + 1, HOP, HOP + 1, 410])
def test_what_comes_out_is_as_long_as_what_went_in_and_in_time(run: Call, samples: int, made: Bundle, voice: Path, tmp_path: Path):
    sound = read(write(tmp_path / "in.wav", toy_voice.noise(samples)))
    done = run(made.folder, "--voice", voice, "--wav", tmp_path / "in.wav", "--out", tmp_path / "out.wav")
    assert done.returncode == 0, done.stderr
    heard = read(tmp_path / "out.wav")
    assert heard.shape == sound.shape
    np.testing.assert_allclose(heard, sound * gain_of(voice), atol=1.01 * LSB)


def test_python_and_cpp_answer_alike(made: Bundle, voice: Path, spoken: Path, tmp_path: Path):
    assert python_run(made.folder, "--voice", voice, "--wav", spoken, "--output", tmp_path / "a.npz", "--output", tmp_path / "a.wav").returncode == 0
    given = ("--voice", voice, "--wav", spoken, "--output", tmp_path / "b.safetensors", "--output", f"y={tmp_path / 'b.wav'}")
    assert cpp_run(made.folder, *given).returncode == 0
    assert cpp_run(made.folder, *given[:4], "--chunks", "7,300,1", "--output", tmp_path / "c.safetensors").returncode == 0
    with np.load(tmp_path / "a.npz") as found:
        for name in ("b", "c"):
            np.testing.assert_allclose(load_file(tmp_path / f"{name}.safetensors")["y"], found["y"], atol=1e-6)
    a, b = (soundfile.read(tmp_path / f"{n}.wav", dtype="int16")[0].astype(int) for n in "ab")
    assert a.shape == b.shape and np.abs(a - b).max() <= 1


def test_bundles_of_one_model_share_their_voices(made: Bundle, voice: Path, spoken: Path, tmp_path: Path):
    int8 = registry.find(Calibrator, "minmax")
    others = {"int8": int8.calibrate(made, tmp_path / "int8", dict(int8.options)), "openvino": flow.export(made.folder, "openvino", tmp_path / "ov")}
    for name, other in others.items():
        out = tmp_path / f"{name}.wav"
        done = python_run(other.folder, "--voice", voice, "--wav", spoken, "--output", out)
        assert done.returncode == 0, done.stderr
        expected = read(spoken) * gain_of(voice)
        if name == "int8":  # ranges come from samples, so that a rare peak is cut
            assert np.sqrt(np.mean((read(out) - expected) ** 2)) <= 0.02 * np.sqrt(np.mean(expected**2))
        else:
            np.testing.assert_allclose(read(out), expected, atol=1.01 * LSB)
        again = python_run(other.folder, "--make-voice", spoken, "--output", tmp_path / f"{name}.voice")
        assert again.returncode == 0, again.stderr
        np.testing.assert_allclose(gain_of(tmp_path / f"{name}.voice"), toy_voice.loudness(read(spoken)), rtol=1e-5)
        done = cpp_run(made.folder, "--voice", tmp_path / f"{name}.voice", "--wav", spoken, "--output", out)
        assert done.returncode == 0, done.stderr


@BOTH
def test_a_voice_of_another_model_and_no_voice_are_refused(run: Call, made: Bundle, folder: Path, voice: Path, spoken: Path, tmp_path: Path):
    other = toy_voice.export(folder, "cd" * 32)
    refused(run(other.folder, "--voice", voice, "--wav", spoken), r"is a voice of another model \(checkpoint abababababab\) than .*cdcdcdcdcdcd.*make it again")
    refused(run(made.folder, "--wav", spoken), "'gain' is made by the preparation 'voice' of .*--make-voice .*then give it with --voice FILE")
    refused(run(made.folder, "--voice", spoken), r"in\.wav")
    refused(run(made.folder, "--voice", tmp_path / "none.voice"), r"none\.voice")
    save_file({"gain": gain_of(voice)}, tmp_path / "anonymous")
    refused(run(made.folder, "--voice", tmp_path / "anonymous"), "does not say of which model it is a voice; make one")
    of = {"edgekit_voice_of": made.manifest.model.checkpoint_sha256}
    for name, arrays, says in (
        ("shape", {"gain": np.zeros((1, 2), np.float32)}, r"'gain' must be float32 \[1, 1\]"),
        ("less", {"volume": np.zeros((1, 1), np.float32)}, "make it again"),
        ("more", {"gain": np.zeros((1, 1), np.float32), "volume": np.zeros(1, np.float32)}, "make it again"),
    ):
        save_file(arrays, tmp_path / name, of)
        refused(run(made.folder, "--voice", tmp_path / name, "--wav", spoken), says)


@BOTH
def test_a_bundle_that_takes_no_voice_or_sound_says_so(run: Call, spoken: Path, voice: Path, tmp_path: Path):
    step = decay(1, 2)
    plain = bundle(tmp_path / "b", {"main": step}, step[1], once(("x", "u"), ("u_next",)))
    refused(run(plain.folder, "--wav", spoken), "one input that is a sampled signal; .* has none among 'x', 'u': give --input")
    refused(run(plain.folder, "--voice", voice), "has no preparation, so it takes no voice; give its inputs with --input")
    refused(run(plain.folder, "--make-voice", spoken), "has no preparations, but a voice is made by the only one that a bundle has")
    given = tmp_path / ("x.npz" if run is python_run else "x.safetensors")
    arrays = {"x": np.ones((1, 2), np.float32), "u": np.ones((1, 2), np.float32)}
    if run is python_run:
        np.savez(given, **arrays)
    else:
        save_file(arrays, given)
    refused(run(plain.folder, "--input", given, "--output", tmp_path / "y.wav"), "is a sampled signal, so there is nothing for .*y.wav")
    refused(run(plain.folder, "--input", given, "--output", f"u_next={tmp_path / 'y.wav'}"), "'u_next' is no sampled signal")
    assert not (tmp_path / "y.wav").exists()


@BOTH
def test_a_bundle_without_a_trained_model_has_no_voices(run: Call, made: Bundle, voice: Path, spoken: Path, tmp_path: Path):
    """Nothing would tell them from those of another."""
    shutil.copytree(made.folder, tmp_path / "b")
    data = json.loads((tmp_path / "b" / "bundle.json").read_text())
    (tmp_path / "b" / "bundle.json").write_text(json.dumps({**data, "model": None}))
    for more in (("--voice", voice, "--wav", spoken), ("--make-voice", spoken)):
        refused(run(tmp_path / "b", *more), "names no trained model, so that nobody could tell its voices from another's")
    assert not spoken.with_suffix(".voice").exists()


@BOTH
def test_what_is_no_sound_and_what_does_not_go_together_is_refused(run: Call, made: Bundle, voice: Path, spoken: Path, tmp_path: Path):
    (tmp_path / "text.wav").write_text("no sound")
    write(tmp_path / "empty.wav", np.zeros((1, 0), np.float32))
    for name in ("text.wav", "empty.wav", "none.wav"):
        refused(run(made.folder, "--voice", voice, "--wav", tmp_path / name), re.escape(name))
        refused(run(made.folder, "--make-voice", tmp_path / name), re.escape(name))
    both = run(made.folder, "--make-voice", spoken, "--voice", voice)
    assert both.returncode == 2 and b"--make-voice makes one voice and runs nothing else" in both.stderr


def test_another_rate_is_resampled_in_python_and_refused_in_cpp(made: Bundle, voice: Path, tmp_path: Path):
    """A tone at 44.1 kHz in two channels is the same tone at the model's rate."""
    t = np.arange(44_100) / 44_100
    write(tmp_path / "cd.wav", np.stack([np.sin(2 * np.pi * 440 * t), np.zeros_like(t)]) * 0.8, 44_100)
    assert python_run(made.folder, "--voice", voice, "--wav", tmp_path / "cd.wav", "--output", tmp_path / "out.wav").returncode == 0
    heard = read(tmp_path / "out.wav")[0]
    wanted = 0.4 * np.sin(2 * np.pi * 440 * np.arange(RATE_HZ) / RATE_HZ) * gain_of(voice)[0, 0]
    assert len(heard) == RATE_HZ
    np.testing.assert_allclose(heard[500:-500], wanted[500:-500], atol=1e-3)
    says = r"cd\.wav is at 44100 Hz, but '{}' takes 16000 Hz; convert it: sox .*cd\.wav -r 16000 out\.wav"
    refused(cpp_run(made.folder, "--voice", voice, "--wav", tmp_path / "cd.wav"), says.format("sound"))
    refused(cpp_run(made.folder, "--make-voice", tmp_path / "cd.wav"), says.format("target"))
    refused(cpp_run(made.folder, "--voice", voice, "--input", f"sound={tmp_path / 'cd.wav'}"), says.format("sound"))


def test_an_input_is_given_once(made: Bundle, voice: Path, spoken: Path, tmp_path: Path):
    np.savez(tmp_path / "x.npz", gain=gain_of(voice))
    refused(python_run(made.folder, "--voice", voice, "--input", tmp_path / "x.npz"), "'gain' is given by --voice and by another file; give it once")
    done = python_run(made.folder, "--input", tmp_path / "x.npz", "--wav", spoken, "--output", tmp_path / "y.wav")
    assert done.returncode == 0 and read(tmp_path / "y.wav").shape == read(spoken).shape
    save_file({"gain": gain_of(voice)}, tmp_path / "x.safetensors")
    refused(cpp_run(made.folder, "--voice", voice, "--input", tmp_path / "x.safetensors"), "'gain' is given by --voice and by another file; give it once")
    refused(python_run(made.preparation("voice").folder), "no inputs were given, but .* takes target; give --input FILE.npz")


def pcm(sound: np.ndarray) -> bytes:
    return np.rint(np.clip(sound, -1, 1) * 32767).astype("<i2").tobytes()


def samples_of(data: bytes) -> np.ndarray:
    return np.frombuffer(data, "<i2").astype(int)


@pytest.mark.parametrize("length", [0, 1, HOP - 1, HOP, 1_003])
def test_a_pipe_answers_to_every_sample_in_time_with_what_comes(made: Bundle, voice: Path, length: int):
    data = pcm(toy_voice.noise(length))
    sound = np.frombuffer(data, "<i2").astype(np.float32)[None] / 32768
    for odd in (b"", b"\x7f"):  # a last byte that is half a sample is dropped
        done = call(runner(), made.folder, "--voice", voice, "--pcm", stdin=data + odd)
        assert done.returncode == 0, done.stderr
        wanted = samples_of(pcm(toy_voice.converted(sound, gain_of(voice)))) if length else np.zeros(0)
        found = samples_of(done.stdout)
        assert found.shape == wanted.shape and (not length or np.abs(found - wanted).max() <= 1)
    assert b"16000 Hz in, 16000 Hz out, 6.2 ms late by the algorithm (a hop of 80 samples, a delay of 20)" in done.stderr


class Piped:
    """The runner with both ends of a pipe in our hands."""

    def __init__(self, made: Bundle, voice: Path) -> None:
        self.process = subprocess.Popen([*runner(), str(made.folder), "--voice", str(voice), "--pcm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, bufsize=0)  # fmt: skip

    def __enter__(self) -> Piped:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for end in (self.process.stdin, self.process.stdout, self.process.stderr):
            end.close()

    def give(self, data: bytes) -> None:
        self.process.stdin.write(data)

    def take(self, count: int) -> bytes:
        """Exactly so many bytes; waits for them."""
        got = b""
        while len(got) < count:
            piece = self.process.stdout.read(count - len(got))
            assert piece, self.process.stderr.read()
            got += piece
        return got

    def ended(self) -> tuple[int, bytes, list[str]]:
        """Exit code, what was still written, lines on stderr."""
        rest = self.process.stdout.read() if not self.process.stdout.closed else b""
        return self.process.wait(20), rest, self.process.stderr.read().decode().splitlines()


def test_pieces_of_any_size_are_answered_as_soon_as_a_hop_is_whole(made: Bundle, voice: Path):
    """The answer to a hop comes while the pipe stays open: nothing waits in a buffer."""
    data = pcm(toy_voice.noise(4_000))
    whole = call(runner(), made.folder, "--voice", voice, "--pcm", stdin=data).stdout
    rng, at, found = np.random.default_rng(3), 0, b""
    with Piped(made, voice) as pipe:
        while at < len(data):
            size = int(rng.integers(1, 700))
            pipe.give(data[at : at + size])
            at = min(len(data), at + size)
            found += pipe.take(at // (2 * HOP) * 2 * HOP - len(found))
        pipe.process.stdin.close()
        code, rest, told = pipe.ended()
    assert code == 0 and found + rest == whole and len(told) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_pipe_with_the_tail_answered(made: Bundle, voice: Path, number: int):
    data = pcm(toy_voice.noise(HOP + 30))
    whole = call(runner(), made.folder, "--voice", voice, "--pcm", stdin=data).stdout
    with Piped(made, voice) as pipe:
        pipe.give(data)
        found = pipe.take(2 * HOP)
        time.sleep(0.1)  # it reads the 30 samples and waits for more
        pipe.process.send_signal(number)
        code, rest, told = pipe.ended()
    assert code == 0 and len(told) == 1, told
    assert found + rest == whole


def test_a_reader_that_leaves_ends_the_pipe_quietly(made: Bundle, voice: Path):
    with Piped(made, voice) as pipe:
        pipe.give(pcm(toy_voice.noise(HOP)))
        pipe.take(2 * HOP)
        pipe.process.stdout.close()
        pipe.give(pcm(toy_voice.noise(HOP)))
        code, _, told = pipe.ended()
    assert code == 0 and len(told) == 1, told


def test_a_pipe_holds_its_memory_for_as_long_as_it_runs(made: Bundle, voice: Path):
    """Half an hour of sound as fast as it goes, 56 MB in and as many out: the process does not grow with it."""
    minute = pcm(toy_voice.noise(60 * RATE_HZ))

    def resident_kib(pid: int) -> int:
        return int(re.search(r"RssAnon:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())[1])

    with Piped(made, voice) as pipe:
        seen = []
        for _ in range(30):
            for at in range(0, len(minute), 32_000):
                pipe.give(minute[at : at + 32_000])
                pipe.take(len(minute[at : at + 32_000]))
            seen.append(resident_kib(pipe.process.pid))
        pipe.process.stdin.close()
        assert pipe.ended()[0] == 0
    assert max(seen[1:]) - seen[0] <= 2048, seen  # the allocator may take another arena; a leak of one buffer in twenty would show


def test_a_pipe_needs_a_stream_with_sound_at_both_ends(made: Bundle, voice: Path, spoken: Path, tmp_path: Path):
    refused(cpp_run(made.preparation("voice").folder, "--pcm"), "is no stream, so that it cannot answer while sound comes; give --wav")
    refused(cpp_run(made.folder, "--pcm"), "'gain' is made by the preparation 'voice'")
    for more in (("--wav", spoken), ("--output", "x.wav"), ("--chunks", "3")):
        refused(cpp_run(made.folder, "--voice", voice, "--pcm", *more), "--pcm reads sound from stdin and writes it to stdout")
    refused(cpp_run(made.folder, "--voice", voice, "--pcm", "--stream"), "one of --golden, --stream, --pcm")
    deaf = tmp_path / "deaf"
    shutil.copytree(made.folder, deaf)
    data = json.loads((deaf / "bundle.json").read_text())
    del data["signature"]["outputs"][0]["rate_hz"]
    (deaf / "bundle.json").write_text(json.dumps(data))
    refused(cpp_run(deaf, "--voice", voice, "--pcm"), "--pcm writes the one output that is a sampled signal.*has none")


def test_outputs_at_several_rates_are_told_apart_by_name(tmp_path: Path):
    """y sounds at 16 kHz, z has no rate: a .wav without a name is y."""
    x = dataclasses.replace(tensor("x", 1, "n"), rate_hz=RATE_HZ)
    y, z = dataclasses.replace(tensor("y", 1, "n"), rate_hz=RATE_HZ), tensor("z", 1, "n")
    both = graph((x,), (y, z), [helper.make_node("Neg", ["x"], ["y"]), helper.make_node("Abs", ["x"], ["z"])])
    plain = bundle(tmp_path / "b", {"main": both}, Signature((x,), (y, z)), once(("x",), ("y", "z")))
    sound = read(write(tmp_path / "in.wav", toy_voice.noise(90)))
    for run in (python_run, cpp_run):
        done = run(plain.folder, "--wav", tmp_path / "in.wav", "--output", tmp_path / "out.wav")
        assert done.returncode == 0, done.stderr
        np.testing.assert_allclose(read(tmp_path / "out.wav"), -sound, atol=1.01 * LSB)
        (tmp_path / "out.wav").unlink()
