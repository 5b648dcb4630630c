"""Bundles: whole or not there, hashed, refused when they are not what they say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edgekit import files
from edgekit.bundle import (
    Allowed,
    Bundle,
    Golden,
    GoldenNote,
    GraphFile,
    Lineage,
    Manifest,
    Model,
    done_already,
    new_bundle,
    open_bundle,
)
from edgekit.errors import Broken, EdgekitError
from edgekit.program import once
from edgekit.signature import Signature, Tensor

SIGNATURE = Signature((Tensor("x", "float32", ("batch", 3), "volts"),), (Tensor("y", "float32", ("batch", 1), "answer"),))
LINEAGE = Lineage("export test", "ab" * 32, {"opset": 20}, {"tool": "1"})


def make(out: Path, lineage: Lineage = LINEAGE) -> Bundle:
    model = Model("iir_snn", {"seed": 0}, "cd" * 32, "accuracy", 0.9, 10)
    manifest = Manifest(
        "test", "onnx", "f32", SIGNATURE, {"main": GraphFile("model.onnx", SIGNATURE, ("spikes",))}, once(("x",), ("y",)),
        GoldenNote("hand", "hand"), model, Allowed({"y": 1e-5}), lineage,
    )  # fmt: skip
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    golden = Golden({"x": x}, {"y": x[:, :1]}, {"spikes": np.ones((2, 4), np.uint8)}, {"spikes": np.array([3], np.int64)})
    with new_bundle(out, manifest, [golden]) as draft:
        (draft / "model.onnx").write_bytes(b"graph")
    return open_bundle(out)


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    bundle = make(tmp_path / "b")
    assert bundle.manifest.signature == SIGNATURE
    assert bundle.manifest.lineage.key == LINEAGE.key
    assert bundle.manifest.allowed.output_max_abs == {"y": 1e-5}
    golden = bundle.golden()
    assert golden.near["spikes"].tolist() == [3]
    assert golden.outputs["y"].dtype == np.float32
    assert bundle.label == "onnx:f32"


def test_the_same_content_has_the_same_hash(tmp_path: Path) -> None:
    assert make(tmp_path / "a").sha256 == make(tmp_path / "b").sha256


def test_a_folder_without_a_manifest_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(EdgekitError, match=r"no bundle in .*edgekit export"):
        open_bundle(tmp_path)


@pytest.mark.parametrize("lay", [lambda path: path.symlink_to("/etc"), lambda path: path.symlink_to("nothing"), os.mkfifo])
def test_links_and_pipes_are_files_too_many_and_nobody_waits_for_one(tmp_path: Path, lay: Callable[[Path], object]) -> None:
    bundle = make(tmp_path / "b")
    lay(bundle.folder / "more")
    with pytest.raises(Broken, match="the files differ from what bundle.json lists: more"):
        open_bundle(bundle.folder)


def test_a_listed_file_that_became_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    bundle = make(tmp_path / "b")
    (bundle.folder / "model.onnx").unlink()
    os.mkfifo(bundle.folder / "model.onnx")
    with pytest.raises(Broken, match=r"model\.onnx was changed"):
        open_bundle(bundle.folder)


@pytest.mark.parametrize("name", ["model.onnx", "golden.safetensors"])
def test_a_changed_file_is_refused_by_name(tmp_path: Path, name: str) -> None:
    bundle = make(tmp_path / "b")
    path = bundle.folder / name
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(Broken, match=f"{name} was changed"):
        open_bundle(bundle.folder)


def test_a_missing_and_an_extra_file_are_refused(tmp_path: Path) -> None:
    bundle = make(tmp_path / "b")
    (bundle.folder / "extra.bin").write_bytes(b"")
    with pytest.raises(Broken, match=r"extra\.bin"):
        open_bundle(bundle.folder)
    (bundle.folder / "extra.bin").unlink()
    (bundle.folder / "model.onnx").unlink()
    with pytest.raises(Broken, match=r"model\.onnx"):
        open_bundle(bundle.folder)


def changed(bundle: Bundle, **values: object) -> Path:
    path = bundle.folder / "bundle.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return bundle.folder


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"format_version": 3}, "bundle format 3, this edgekit reads 4"),
        ({"surprise": 1}, "surprise"),
        ({"name": 7}, "'name' must be str, found 7"),
        ({"program": {"phases": []}}, "program must be an object of seed, phases"),
        ({"files": {"../model.onnx": "00", "model.onnx": "00"}}, "outside the bundle"),
        ({"model": {"family": "x"}}, "Model has the fields"),
        ({"signature": {"inputs": []}}, "signature needs inputs and outputs"),
    ],
)
def test_a_manifest_that_is_not_understood_is_refused(tmp_path: Path, values: dict[str, object], message: str) -> None:
    folder = changed(make(tmp_path / "b"), **values)
    with pytest.raises(Broken, match=message):
        open_bundle(folder)


def test_a_manifest_that_is_no_json_is_refused(tmp_path: Path) -> None:
    bundle = make(tmp_path / "b")
    (bundle.folder / "bundle.json").write_text("{")
    with pytest.raises(Broken, match="not JSON"):
        open_bundle(bundle.folder)


def test_only_the_same_lineage_counts_as_done(tmp_path: Path) -> None:
    make(tmp_path / "b")
    assert done_already(tmp_path / "b", LINEAGE) is not None
    assert done_already(tmp_path / "b", Lineage("export test", "ab" * 32, {"opset": 21}, {"tool": "1"})) is None
    assert done_already(tmp_path / "nothing", LINEAGE) is None


def test_evidence_belongs_to_exactly_one_bundle(tmp_path: Path) -> None:
    bundle = make(tmp_path / "b")
    bundle.write_evidence("verify-x", {"passed": True})
    assert open_bundle(bundle.folder).read_evidence("verify-x") == {"passed": True}
    other = make(tmp_path / "b", Lineage("export test", "ff" * 32, {}, {}))
    assert other.read_evidence("verify-x") is None


def test_a_failing_exporter_leaves_nothing_and_keeps_the_old_bundle(tmp_path: Path) -> None:
    before = make(tmp_path / "b")
    golden = before.golden()
    with pytest.raises(RuntimeError, match="engine"), new_bundle(tmp_path / "b", before.manifest, [golden]) as draft:
        (draft / "model.onnx").write_bytes(b"half")
        raise RuntimeError("engine")
    assert open_bundle(tmp_path / "b").sha256 == before.sha256
    assert [p.name for p in tmp_path.iterdir()] == ["b"]


def test_a_read_only_place_is_said_in_one_sentence(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("")
    with pytest.raises(EdgekitError, match="cannot write"):
        make(blocker / "b")


def test_killed_in_the_middle_there_is_no_half_bundle_and_the_draft_goes_next_time(tmp_path: Path) -> None:
    script = (
        "import sys, time, pathlib; from edgekit.files import folder_draft\n"
        "with folder_draft(pathlib.Path(sys.argv[1])) as d:\n"
        "    (d / 'x').write_text('half'); print('in', flush=True); time.sleep(60)\n"
    )
    root = str(Path(files.__file__).parent.parent)
    child = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "b")],
        stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert child.stdout is not None
    with child:
        assert child.stdout.readline() == b"in\n"
        child.send_signal(signal.SIGKILL)
    assert not (tmp_path / "b").exists()
    assert len(list(tmp_path.iterdir())) == 1
    time.sleep(0.05)
    make(tmp_path / "b")
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
