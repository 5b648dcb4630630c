"""A bundle inside a bundle: what is made once for it goes along everywhere, is checked like it, and says no when it does not fit."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import toy_voice
from onnx import helper
from toy_bundles import bundle, decay, graph, tensor

from edgekit import examine, flow, registry
from edgekit.bundle import Bundle, done_already, open_bundle
from edgekit.errors import Broken, EdgekitError
from edgekit.parts import Calibrator, Exporter, Runtime
from edgekit.program import Feed, Join, Phase, Program, State, Stream, once, value
from edgekit.program_file import read_program
from edgekit.route import Step, steps_of
from edgekit.runtimes import _cpp_build, cpp
from edgekit.signature import Signature, Tensor

PARENTS = ("checkpoint", "onnx:f32", "openvino:f32")  # what the toy is there as
STEPS = [s for kind in (Exporter, Calibrator) for name in registry.names(kind) for s in steps_of(kind, name) if s.accepts in PARENTS]
CARRIES = {"onnx", "openvino", "aotinductor", "half", "bf16", "int8", "minmax", "percentile", "entropy", "mse", "symmetric"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("prepares")


@pytest.fixture(scope="module")
def made(folder: Path) -> Bundle:
    return toy_voice.export(folder)


@pytest.fixture(scope="module")
def parents(made: Bundle, folder: Path) -> dict[str, Bundle]:
    """What there is to make others from."""
    return {"onnx:f32": made, "openvino:f32": flow.export(made.folder, "openvino", folder / "ov")}


def copied(made: Bundle, to: Path) -> Path:
    return Path(shutil.copytree(made.folder, to))


def test_an_inner_bundle_is_whole_and_the_outer_one_lists_its_files(made: Bundle):
    assert made.manifest.prepares == ("voice",)
    inner = made.preparation("voice")
    assert inner.manifest.signature.inputs[0].rate_hz == toy_voice.RATE_HZ and inner.manifest.prepares == ()
    assert {f"voice/{n}" for n in (*inner.manifest.files, "bundle.json")} < set(made.manifest.files)
    assert made.bytes_total == (made.folder / "model.onnx").stat().st_size
    assert done_already(made.folder, made.manifest.lineage) is not None


@pytest.mark.parametrize("step", STEPS, ids=lambda s: f"{s.part}-from-{s.accepts}")
def test_every_part_carries_it_along_or_says_that_it_does_not(step: Step, parents: dict[str, Bundle], folder: Path, tmp_path: Path):
    part = registry.load(step.kind, step.part)
    if registry.missing(part):
        pytest.skip(f"needs {', '.join(registry.missing(part))}: {registry.install_hint(part)}")
    source = toy_voice.trained(folder) if step.accepts == "checkpoint" else parents[step.accepts]

    def call() -> Bundle:
        if isinstance(part, Calibrator):
            return part.calibrate(source, tmp_path / "b", dict(part.options))
        return part.export(source, tmp_path / "b", {**part.options, **({"device": "cpu"} if step.part == "aotinductor" else {})})

    if step.part not in CARRIES:
        with pytest.raises(EdgekitError) as refused:
            call()
        assert "\n" not in str(refused.value) and not (tmp_path / "b").exists()
        return
    carried = call()
    inner = open_bundle(carried.folder).preparation("voice")
    assert carried.label == step.label and inner.manifest.format == carried.manifest.format and inner.manifest.precision == "f32"
    runtime = registry.find(Runtime, {"onnx": "onnxruntime"}.get(part.format, part.format))
    with runtime.open(inner) as session:
        heard = toy_voice.noise(777)
        np.testing.assert_allclose(session.run({"target": heard})["gain"], toy_voice.loudness(heard), rtol=1e-5)
    found = examine.verify(carried, "", 0)
    assert found.passed and found.prepares["voice"]["passed"] and found.prepares["voice"]["golden_samples"] == 1


def test_a_fused_loop_keeps_its_preparation(tmp_path: Path):
    twice = graph((tensor("a", 1, 2),), (tensor("x", 1, 2),), [helper.make_node("Add", ["a", "a"], ["x"])])
    inner = bundle(tmp_path / "inner", {"main": twice}, twice[1], once(("a",), ("x",)))
    loop = Program((Phase("g", "steps", 3, inputs={"x": value("x"), "u": value("u")}, states={"u": State("float32", (1, 2))}, carry={"u_next": "u"}),))
    outer = bundle(tmp_path / "b", {"g": decay(1, 2)}, Signature((tensor("x", 1, 2),), (tensor("u", 1, 2),)), loop, prepares={"first": inner})
    fused = flow.export(outer.folder, "onnx-fused", tmp_path / "f")
    assert fused.preparation("first").sha256 == inner.sha256


def test_a_kit_for_tensorrt_refuses_before_it_is_built(made: Bundle, tmp_path: Path):
    part = registry.find(Exporter, "tensorrt_kit")
    with pytest.raises(EdgekitError, match="needs its preparation 'voice', which tensorrt bundles do not carry; choose onnx"):
        part.export(made, tmp_path / "kit", dict(part.options))


def test_a_part_that_knows_of_none_is_refused_when_the_bundle_is_sealed(made: Bundle, tmp_path: Path):
    from edgekit.bundle import new_bundle

    refused = pytest.raises(EdgekitError, match="'toy' needs its preparation 'voice', which bundles made this way do not carry")
    with refused, new_bundle(tmp_path / "b", made.manifest, made.goldens()) as draft:
        (draft / "model.onnx").write_bytes(made.graph().read_bytes())
    assert not (tmp_path / "b").exists()


def test_evidence_of_the_inner_bundle_changes_nothing(made: Bundle, tmp_path: Path):
    folder = copied(made, tmp_path / "b")
    before = open_bundle(folder)
    assert examine.verify(before, "onnxruntime", 0).passed
    assert (folder / "voice" / "evidence" / "verify-onnxruntime.json").is_file()
    assert open_bundle(folder).sha256 == before.sha256
    assert before.preparation("voice").read_evidence("verify-onnxruntime")["passed"] is True
    runner = _cpp_build.runner(cpp.NATIVE)
    if runner is not None:
        assert said_by_cpp(runner, folder, "--golden").returncode == 0


def said_by_cpp(runner: Path, folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [str(runner), str(folder), "--library", str(_cpp_build.onnxruntime_folder()), *more]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "EDGEKIT_PYTHON": sys.executable})


def test_a_wrong_answer_of_the_inner_bundle_fails_the_outer_one(made: Bundle, tmp_path: Path):
    folder = copied(made, tmp_path / "b")
    inner = open_bundle(folder).preparation("voice")
    golden = inner.golden()
    golden.outputs["gain"][0, 0] += np.float32(0.5)  # type: ignore[index]
    golden.save(inner.folder / "golden.safetensors")
    reseal(inner.folder)
    reseal(folder)
    done = subprocess.run([sys.executable, "-m", "edgekit", "verify", str(folder), "--score-limit", "0"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    runner = _cpp_build.runner(cpp.NATIVE)
    if runner is not None:
        told = said_by_cpp(runner, folder, "--golden")
        cases = {c["file"]: c["failures"] for c in json.loads(told.stdout)["cases"]}
        assert told.returncode == 1 and list(cases) == ["voice/golden.safetensors", "golden.safetensors"]
        assert cases["golden.safetensors"] == [] and "'gain'" in cases["voice/golden.safetensors"][0]
    assert "prepares  voice: NOT EQUAL" in done.stdout and "preparation 'voice': output 'gain' differs by 0.5" in done.stdout


def reseal(folder: Path, **values: object) -> Path:
    """Write the hashes of the files as they are now into the manifest, and other fields."""
    from edgekit import files

    path = folder / "bundle.json"
    data = {**json.loads(path.read_text()), **values}
    listed = [p for p in folder.rglob("*") if p.is_file() and p != path and "evidence" not in p.parts]
    data["files"] = {str(p.relative_to(folder)): files.sha256_of(p) for p in listed}
    path.write_text(json.dumps(data))
    return folder


def refused_alike(folder: Path, says: str) -> None:
    """Python and C++ refuse the folder, each in one sentence that holds `says`."""
    with pytest.raises(Broken, match=says):
        open_bundle(folder)
    runner = _cpp_build.runner(cpp.NATIVE)
    if runner is not None:
        done = said_by_cpp(runner, folder)
        assert done.returncode == 2 and says in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_a_changed_a_missing_and_an_extra_inner_file_are_refused(made: Bundle, tmp_path: Path):
    folder = copied(made, tmp_path / "changed")
    with (folder / "voice" / "golden.safetensors").open("ab") as file:
        file.write(b"x")
    refused_alike(folder, "voice/golden.safetensors was changed")
    folder = copied(made, tmp_path / "missing")
    (folder / "voice" / "model.onnx").unlink()
    refused_alike(folder, "voice/model.onnx")
    folder = copied(made, tmp_path / "extra")
    (folder / "voice" / "more").write_bytes(b"")
    refused_alike(folder, "voice/more")


def test_an_inner_file_that_the_inner_manifest_does_not_mean_is_refused(made: Bundle, tmp_path: Path):
    """The outer hashes are right, the inner ones are not."""
    folder = copied(made, tmp_path / "b")
    with (folder / "voice" / "model.onnx").open("ab") as file:
        file.write(b"x")
    reseal(folder)
    refused_alike(folder, "model.onnx was changed after the bundle was made")


def test_what_does_not_fit_is_refused(made: Bundle, tmp_path: Path):
    plain = copied(made, tmp_path / "none")
    shutil.rmtree(plain / "voice")
    refused_alike(reseal(plain), "the preparation 'voice' must be a folder of the bundle")
    twice = reseal(copied(made, tmp_path / "twice"), prepares=["voice", "voice"])
    refused_alike(twice, "named once")
    second = copied(made, tmp_path / "second")
    shutil.copytree(second / "voice", second / "other")
    refused_alike(reseal(second, prepares=["other", "voice"]), "two preparations make 'gain'")
    other = copied(made, tmp_path / "other")
    reseal(other / "voice", format="openvino")
    refused_alike(reseal(other), "the preparation 'voice' is of format openvino, the bundle of onnx")
    deep = copied(made, tmp_path / "deep")
    shutil.copytree(deep / "voice", deep / "voice" / "more")
    reseal(deep / "voice", prepares=["more"])
    refused_alike(reseal(deep), "a preparation has none of its own, but this one names more")
    for name, change, says in (
        ("shape", {"shape": [1, 2]}, "makes 'gain' as float32"),
        ("name", {"name": "volume"}, "makes 'volume', which is no input that is given whole"),
        ("streamed", {"name": "sound", "shape": [1, "n"]}, "makes 'sound', which is no input that is given whole"),
    ):
        folder = copied(made, tmp_path / name)
        text = (folder / "voice" / "bundle.json").read_text()
        data = json.loads(text)
        for ports in (data["signature"]["outputs"], data["graphs"]["main"]["outputs"]):
            ports[0].update(change)
        data["program"]["phases"][0]["outputs"] = {ports[0]["name"]: ports[0]["name"]}
        (folder / "voice" / "bundle.json").write_text(json.dumps(data))
        refused_alike(reseal(folder), says)


def test_a_rate_is_kept_and_a_wrong_one_is_refused(made: Bundle, tmp_path: Path):
    written = json.loads((made.folder / "bundle.json").read_text())["signature"]
    assert written["inputs"][0]["rate_hz"] == 16000 and "rate_hz" not in written["inputs"][1]
    good = {"name": "a", "dtype": "float32", "shape": [1, "n"], "meaning": "", "rate_hz": 8000}
    assert Signature.from_json({"inputs": [good], "outputs": []}, "x").inputs == (Tensor("a", "float32", (1, "n"), "", (), 8000),)
    for i, wrong in enumerate(({"rate_hz": 0}, {"rate_hz": -1}, {"rate_hz": 1.5}, {"rate_hz": "8000"}, {"rate_hz": True}, {"rate_hz": 2**31}, {"shape": []})):
        with pytest.raises(Broken, match="rate_hz of 'a'"):
            Signature.from_json({"inputs": [{**good, **wrong}], "outputs": []}, "x")
        folder = copied(made, tmp_path / str(i))
        data = json.loads((folder / "bundle.json").read_text())
        data["signature"]["inputs"][1].update({"rate_hz": 8000, **wrong})
        (folder / "bundle.json").write_text(json.dumps(data))
        refused_alike(folder, "rate_hz")


def test_only_concat_has_a_delay(made: Bundle, tmp_path: Path):
    assert made.manifest.program.stream.joins["y"] == Join("concat", 1, toy_voice.DELAY)
    for i, wrong in enumerate(({"delay": -1}, {"delay": 1.5}, {"how": "stack"}, {"how": "last"})):
        folder = copied(made, tmp_path / str(i))
        data = json.loads((folder / "bundle.json").read_text())
        data["program"]["phases"][0]["joins"]["y"].update(wrong)
        (folder / "bundle.json").write_text(json.dumps(data))
        refused_alike(folder, "delay must be a whole number")
    late = Program((Stream({"x": Feed(0)}, (Phase("g", inputs={"x": value("x")}, outputs={"y": "y"}),), {"y": Join("stack", 0, 3)}),))
    one = graph((tensor("x", 2),), (tensor("y", 2),), [helper.make_node("Identity", ["x"], ["y"])])
    with pytest.raises(Broken, match="joins 'y' by stack with a delay of 3, but only concat has one"):
        from edgekit.program_check import check

        check(late, Signature((tensor("x", "n", 2),), (tensor("y", "n", 2),)), {"g": one[1]}, {}, "here")
    with pytest.raises(Broken, match=r"joins\.y must be an object of axis, how, delay"):
        data = made.manifest.program.to_json()
        del data["phases"][0]["joins"]["y"]["delay"]
        read_program(data, "here")


def test_the_schema_says_the_same(made: Bundle):
    import jsonschema

    schema = json.loads((Path(__file__).parent.parent / "docs" / "bundle.schema.json").read_text())
    manifest = json.loads((made.folder / "bundle.json").read_text())
    jsonschema.validate(manifest, schema)
    for wrong in (lambda m: m.pop("prepares"), lambda m: m["prepares"].append("a/b"), lambda m: m["signature"]["inputs"][0].update(rate_hz=0),
                  lambda m: m["program"]["phases"][0]["joins"]["y"].pop("delay"),
                  lambda m: m["program"]["phases"][0]["joins"]["y"].update(how="last")):  # fmt: skip
        changed = json.loads(json.dumps(manifest))
        wrong(changed)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(changed, schema)
