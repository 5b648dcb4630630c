"""Tasks: several programs over the graphs of one bundle, carried, verified, run, timed and reported each under its name."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner
from toy_bundles import bundle as made_by_hand
from toy_tasks import Tasked, ToyTask, drawn

import edgekit
from edgekit import examine, files, quantise, registry
from edgekit.bundle import MANIFEST, Bundle, open_bundle
from edgekit.cli import cli as main
from edgekit.errors import Broken, EdgekitError
from edgekit.parts import Calibrator, Exporter
from edgekit.process_run import Request
from edgekit.report.tables import all_tables
from edgekit.run_folder import read_run

QUICK = Request(seconds=0.05, processes=1, energy_seconds=0.0)


@pytest.fixture(scope="module")
def trained() -> Tasked:
    return Tasked()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tasks")


@pytest.fixture(scope="module")
def onnx(trained: Tasked, run: Path) -> Bundle:
    part = registry.find(Exporter, "onnx")
    return part.export(trained, run / "bundles" / "onnx", part.options)


@pytest.fixture(scope="module")
def openvino(onnx: Bundle, run: Path) -> Bundle:
    part = registry.find(Exporter, "openvino")
    return part.export(onnx, run / "bundles" / "openvino", part.options)


def calibrated(name: str, source: Bundle, out: Path, **more: object) -> Bundle:
    part = registry.find(Calibrator, name)
    return part.calibrate(source, out, {**part.options, **more})


def test_a_task_is_a_bundle_with_the_same_graphs_and_another_program(onnx: Bundle, trained: Tasked):
    assert onnx.task_names == ("refine", "follow", "guess")
    assert onnx.of_task("") is onnx and onnx.of_task("refine") is onnx
    guess = onnx.of_task("guess")
    assert guess.manifest.program == trained.tasks["guess"].program and guess.manifest.graphs == onnx.manifest.graphs
    assert [len(g.inputs["x"]) for g in guess.goldens()] == [5, 2] and [len(g.inputs["x"]) for g in onnx.goldens()] == [4, 3]
    with pytest.raises(EdgekitError, match=r"no task.*'gues'.*follow, guess, refine"):
        onnx.of_task("gues")


@pytest.mark.parametrize("form", ["onnx", "openvino"])
def test_every_task_gives_the_answers_of_torch(form: str, request: pytest.FixtureRequest, trained: Tasked):
    made: Bundle = request.getfixturevalue(form)
    found = examine.verify(made)
    assert found.passed and set(found.tasks) == {"guess", "follow"} and all(t["passed"] for t in found.tasks.values())
    x = drawn(3, 11)
    with edgekit.open(made.folder, task="guess") as session:
        answers = session.run(x=x)
    np.testing.assert_allclose(answers["y"], trained.pulled(x, "guess"), atol=1e-5)
    assert answers["code"].tolist() == trained.pulled(x, "guess").argmax(1).tolist()
    with edgekit.open(made.folder) as session:
        np.testing.assert_allclose(session.run(x=x)["y"], trained.pulled(x, "refine"), atol=1e-5)


def test_a_wrong_answer_of_a_task_fails_the_bundle(onnx: Bundle, tmp_path: Path):
    folder = tmp_path / "wrong"
    golden = onnx.of_task("guess").goldens()[1]
    shutil.copytree(onnx.folder, folder)
    dataclasses.replace(golden, outputs={**golden.outputs, "y": golden.outputs["y"] + 1}).save(folder / "golden-guess-2.safetensors")
    reseal(folder)
    found = examine.verify(open_bundle(folder))
    assert not found.passed and all(f.startswith("task 'guess': output 'y' differs by 1") for f in found.failures)


@pytest.mark.parametrize(("name", "form"), [("half", "onnx"), ("bf16", "openvino")])
def test_rounded_forms_carry_tasks_and_hold_each_to_what_it_keeps(name: str, form: str, request: pytest.FixtureRequest, tmp_path: Path):
    made = calibrated(name, request.getfixturevalue(form), tmp_path / name)
    assert made.task_names == ("refine", "follow", "guess") and examine.verify(made).passed
    if name == "bf16":
        assert all(15 < made.of_task(t).manifest.allowed.sqnr_db["y"] < 110 for t in made.task_names)


def test_int8_is_calibrated_by_all_tasks(onnx: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    toy = ToyTask()
    monkeypatch.setattr(quantise, "task_of", lambda model: toy)
    trials = quantise.Trials(onnx)
    assert toy.asked == ["follow", "guess"]
    seen = max(float(np.abs(c["x"]).max()) for c in trials._calls["main"])
    assert seen == float(np.abs(3 * drawn(60, 9)).max())  # the task's samples are three times as large: the range must hold them
    made = calibrated("int8", onnx, tmp_path / "int8", max_score_drop=0.5)
    assert made.task_names == ("refine", "follow", "guess")
    assert set(made.manifest.tasks["follow"].allowed.sqnr_db) == {"y"}
    monkeypatch.undo()
    assert examine.verify(made, score_limit=0).passed


def test_fusing_takes_the_own_task_alone(onnx: Bundle, tmp_path: Path):
    part = registry.find(Exporter, "fused")
    made = part.export(onnx, tmp_path / "fused", part.options)
    assert made.task_names == () and made.manifest.task == "refine" and examine.verify(made).passed


def test_a_task_is_timed_and_reported_under_its_name(onnx: Bundle, openvino: Bundle, run: Path):
    for made in (onnx, openvino):
        examine.verify(made)
        for name in made.task_names:
            examine.profile(made.of_task(name), QUICK)
    assert (onnx.folder / "evidence" / "guess" / "profile-onnxruntime-1.json").is_file()
    read = read_run(run)
    rows = {(b.label, t.name): t for b in read.bundles for t in b.tasks}
    assert set(rows) == {(f, t) for f in ("onnx:f32", "openvino:f32") for t in ("guess", "follow")}
    assert all(len(t.measurements) == 1 and t.verifications[0].passed for t in rows.values())
    (table,) = [t for t in all_tables(read) if t.title == "Tasks"]
    names = ["refine", "follow", "guess"]
    assert [[c.text for c in r[:3]] for r in table.rows] == [[f, t, "yes"] for f in ("onnx:f32", "openvino:f32") for t in names]
    assert all(float(r[[c.head for c in table.columns].index("p50 ms")].text) > 0 for r in table.rows)


def test_the_commands_take_a_task(onnx: Bundle, tmp_path: Path):
    examine.verify(onnx)
    np.savez(tmp_path / "x.npz", x=drawn(2, 12))
    said = invoke("run", onnx.folder, "--task", "guess", "--input", tmp_path / "x.npz", "--json")
    assert set(said) == {"y", "code"}
    said = invoke("profile", onnx.folder, "--task", "guess", "--seconds", "0.05", "--processes", "1", "--energy-seconds", "0", "--json")
    assert said["task"] == "guess" and said["samples"] > 0
    assert invoke("estimate", onnx.folder, "--task", "guess", "--target", "raspberry_pi_5", "--json")["estimates"][0]["operations"]
    done = CliRunner().invoke(main, ["run", str(onnx.folder), "--task", "ges", "--input", str(tmp_path / "x.npz")])
    assert isinstance(done.exception, EdgekitError) and "follow, guess, refine" in str(done.exception)


def test_an_estimate_counts_the_calls_of_the_task(onnx: Bundle):
    def operations(task: str) -> int:
        return examine.estimate_on(onnx.of_task(task), ["raspberry_pi_5"])[0].operations or 0

    assert operations("refine") == pytest.approx(3 * operations("guess"), rel=0.1)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"task": ""}, "tasks have different names"),
        ({"task": "guess"}, "tasks have different names"),
        ({"task": "Refine!"}, "tasks have different names"),
        ({"tasks": []}, "'tasks' must be an object"),
        ({"tasks": {"guess": {}}}, "task 'guess': TaskProgram has the fields"),
    ],
)
def test_odd_manifests_are_refused(change: dict[str, object], says: str, onnx: Bundle, tmp_path: Path):
    folder = shutil.copytree(onnx.folder, tmp_path / "b")
    data = json.loads((folder / MANIFEST).read_text()) | change
    (folder / MANIFEST).write_text(json.dumps(data))
    with pytest.raises(Broken, match=says):
        open_bundle(folder)


def test_a_task_that_does_not_fit_its_graphs_is_refused_by_name(onnx: Bundle, tmp_path: Path):
    folder = shutil.copytree(onnx.folder, tmp_path / "b")
    data = json.loads((folder / MANIFEST).read_text())
    data["tasks"]["guess"]["program"]["phases"][0]["graph"] = "other"
    (folder / MANIFEST).write_text(json.dumps(data))
    with pytest.raises(Broken, match="task 'guess'.*runs the graph 'other'"):
        open_bundle(folder)


def test_the_schema_says_the_same(onnx: Bundle, tmp_path: Path):
    schema = json.loads((Path(__file__).parents[1] / "docs" / "bundle.schema.json").read_text())
    data = json.loads((onnx.folder / MANIFEST).read_text())
    jsonschema.validate(data, schema)
    del data["tasks"]["guess"]["allowed"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, schema)


def test_a_bundle_of_one_program_has_no_tasks(tmp_path: Path):
    from toy_bundles import decay, tensor

    from edgekit.program import once
    from edgekit.signature import Signature

    made = made_by_hand(tmp_path / "b", {"main": decay("batch", 2)}, Signature((tensor("x", "batch", 2), tensor("u", "batch", 2)), (tensor("u_next", "batch", 2),)),
                        once(("x", "u"), ("u_next",)))  # fmt: skip
    assert made.task_names == () and made.evidence == made.folder / "evidence"
    with pytest.raises(EdgekitError, match="has one program"):
        made.of_task("other")


def reseal(folder: Path) -> None:
    """Write down the files' hashes as they are now."""
    data = json.loads((folder / MANIFEST).read_text())
    data["files"] = {n: files.sha256_of(folder / n) for n in data["files"]}
    (folder / MANIFEST).write_text(json.dumps(data))


def invoke(*words: object) -> dict:
    done = CliRunner().invoke(main, [str(w) for w in words])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)
