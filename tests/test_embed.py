"""`edgekit embed` writes a project that builds as it is, and whose answers are those of the bundle."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import program_fixture
import pytest

from edgekit import data
from edgekit.bundle import open_bundle
from edgekit.embed import embed
from edgekit.errors import EdgekitError


def built(project: Path, *settings: str) -> Path:
    path = os.pathsep.join((os.environ["PATH"], str(Path(sys.executable).parent)))
    if not shutil.which("cmake", path=path) or not shutil.which("c++", path=path):
        pytest.skip("no cmake or no C++ compiler")
    for command in (["cmake", "-B", "build", *settings], ["cmake", "--build", "build", "--parallel", "2"]):
        done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False, env={**os.environ, "PATH": path})
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return project / "build" / "app"


def call(app: Path, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "EDGEKIT_PYTHON": sys.executable, **environment}
    return subprocess.run([app, *map(str, arguments)], capture_output=True, text=True, check=False, env=env)


def segments(probability: np.ndarray, chunk_s: float) -> list[tuple[float, float]]:
    """The rule of the application, over a whole recording: on at 0.5, off below 0.35 for 0.1 s."""
    found, begin, last = [], None, 0
    for i, p in enumerate(probability):
        if p >= 0.5 and begin is None:
            begin = i
        if begin is not None and p >= 0.35:
            last = i + 1
        if begin is not None and (i + 1 - last) * chunk_s >= 0.1:
            found.append((begin * chunk_s, last * chunk_s))
            begin = None
    return found + ([(begin * chunk_s, last * chunk_s)] if begin is not None else [])


@pytest.mark.builds
def test_the_silero_project_prints_the_speech_segments(small_run: Path, tmp_path: Path):
    for wanted in program_fixture.needs("silero"):
        if data.folder(wanted) is None:
            pytest.skip(f"no data: {wanted} is not on this machine")
    import soundfile

    bundle = open_bundle(program_fixture.make("silero", tmp_path, small_run))
    embed(bundle, tmp_path / "project", 16_000)
    app = built(tmp_path / "project", "-DCMAKE_BUILD_TYPE=Debug")  # compiles in a third of the time; the other project is built as users do
    golden = bundle.golden()
    soundfile.write(tmp_path / "speech.wav", golden.inputs["input"][0], 16_000, subtype="FLOAT")
    soundfile.write(tmp_path / "slow.wav", golden.inputs["input"][0], 8_000)
    done = call(app, tmp_path / "speech.wav")
    assert done.returncode == 0, done.stderr
    printed = [tuple(float(word) for word in line.split() if word != "s") for line in done.stdout.splitlines()]
    expected = segments(golden.outputs["output"][0], 512 / 16_000)
    assert expected, "the recording holds speech"
    np.testing.assert_allclose(printed, expected, atol=0.006)
    for arguments, environment, says in (
        ([tmp_path / "slow.wav"], {}, "8000 Hz, this model needs 16000"),
        ([tmp_path / "none.wav"], {}, "cannot read"),
        ([app], {}, "no WAVE file"),
        ([], {}, "usage"),
        ([tmp_path / "speech.wav"], {"APP_BUNDLE": str(tmp_path)}, "no bundle"),
        ([tmp_path / "speech.wav"], {"EDGEKIT_ORT_LIBRARY": str(tmp_path / "x.so")}, "which is not there"),
    ):
        failed = call(app, *arguments, **environment)
        assert failed.returncode == 2 and says in failed.stderr and not failed.stdout


@pytest.mark.builds
def test_a_project_for_arrays_gives_the_golden_answers(small_run: Path, tmp_path: Path):
    bundle = open_bundle(program_fixture.make("snn_t4", tmp_path, small_run))
    embed(bundle, tmp_path / "project")
    app = built(tmp_path / "project")
    golden = bundle.golden()
    np.save(tmp_path / "image.npy", golden.inputs["image"])
    done = call(app, tmp_path / "image.npy")
    assert done.returncode == 0, done.stderr
    head, *rows = done.stdout.splitlines()
    assert head == "logits float32 [64, 10]"
    found = np.array([float(word) for line in rows for word in line.split()]).reshape(64, 10)
    np.testing.assert_allclose(found, golden.outputs["logits"], atol=1e-5)
    other = open_bundle(program_fixture.make("snn_t1", tmp_path, small_run))  # whole, of the same inputs, and not the one that was built in
    swapped = call(app, tmp_path / "image.npy", APP_BUNDLE=str(other.folder))
    assert swapped.returncode == 2 and f"its digest is {other.sha256}, not {bundle.sha256}" in swapped.stderr
    wrong = call(app, f"picture={tmp_path / 'image.npy'}")
    assert wrong.returncode == 2 and "the input 'image' is missing" in wrong.stderr


def test_a_folder_that_is_there_is_left_alone(small_run: Path, tmp_path: Path):
    bundle = open_bundle(program_fixture.make("snn_t1", tmp_path, small_run))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    with pytest.raises(EdgekitError, match="is there already"):
        embed(bundle, tmp_path / "mine")
    assert (tmp_path / "mine" / "file").read_text() == "x"


def test_names_of_a_stranger_stay_names_in_the_code(tmp_path: Path):
    from toy_bundles import bundle, graph, tensor

    from edgekit.program import Phase, Program, value

    evil = 'x"); system("touch pwned"); ("\\ @OUTPUT@ %n'
    model = graph((tensor(evil, 2),), (tensor("y", 2),), [onnx.helper.make_node("Neg", [evil], ["y"])])
    made = bundle(tmp_path / "b", {"main": model}, model[1], Program((Phase("main", inputs={evil: value(evil)}, outputs={"y": "y"}),)))
    embed(made, tmp_path / "app")
    code = (tmp_path / "app" / "main.cpp").read_text()
    literals = [m[1] for m in re.finditer(r'"((?:[^"\\\n]|\\.)*)"', code)]
    assert re.sub(r"\\(.)", r"\1", next(t for t in literals if "pwned" in t)) == f"{evil}.npy"
    assert "system(" not in re.sub(r'"((?:[^"\\\n]|\\.)*)"', "", code)
