"""Few-step diffusion, tuned students and shifted time as families: trained small, exported with their loops, run on real engines."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import examine, flow, recipe, registry
from edgekit.bundle import Bundle
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import silent
from edgekit.models._diffusion import distil
from edgekit.models._diffusion.data import pictures
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.plans import Sampling
from edgekit.models._diffusion.sampler import sample
from edgekit.models._diffusion.stages import loaded
from edgekit.models._pso_options import Preference
from edgekit.parts import Exporter, Family, Runtime
from edgekit.picture_grid import size_of_png
from edgekit.plan import Plan
from edgekit.train import fit, launch

QUICK = {"epochs": 1, "batch_size": 128, "learning_rate": 0.01, "optimizer": "muon", "schedule": "constant"}
TEACHER = {**QUICK, "epochs": 3, "average": 0.9}
NETWORK = {"network": {"width": 8}}
RECIPES = {
    "few_step": {**NETWORK, "teacher": TEACHER, "students": {s: QUICK for s in ("consistency", "matching", "shortcut")}},
    "pso": {**NETWORK, "teacher": TEACHER, "consistency": QUICK, "online": QUICK, "offline": QUICK, "steps": 2, "preference": {"pairs": 16}},
    "time_shift": {**NETWORK, "teacher": TEACHER, "loops": [{"kind": "s-pndm", "steps": 3}], "windows": [40], "cutoffs": [300], "pictures": 40, "noise_seeds": [1]},
}  # fmt: skip


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of all processes of the test session, with feature networks in it: what one has trained serves the others."""
    from edgekit.models._diffusion import rewards, yardstick

    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "few_step"
    folder.mkdir(exist_ok=True)
    patch = pytest.MonkeyPatch()
    for module in (rewards, yardstick):
        patch.setattr(module, "folder", lambda name, own=module.__name__: folder / own / name)
    yardstick.cached.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two processes with two threads each train ten times slower on two cores
    yield folder
    torch.set_num_threads(threads)
    yardstick.cached.cache_clear()
    patch.undo()


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time."""
    import fcntl

    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@pytest.fixture(scope="module")
def runs(shared: Path) -> dict[str, Path]:
    with alone(shared):
        for family, values in RECIPES.items():
            part = registry.find(Family, family)
            if not (shared / family / "train" / "result.json").exists():
                part.fit(recipe.fill(part.options(), values, family), shared / family / "train", silent)
    return {family: shared / family for family in RECIPES}


@pytest.fixture(scope="module")
def bundles(runs: dict[str, Path], shared: Path) -> dict[str, Bundle]:
    exporter, forms = registry.find(Exporter, "onnx"), {"few_step": "one", "pso": "online", "time_shift": "shifted"}
    with alone(shared):  # a bundle that is there is taken as it is
        return {
            family: exporter.export(registry.find(Family, family).load(runs[family] / "train" / form), shared / "bundles" / family, exporter.options)
            for family, form in forms.items()
        }


@pytest.mark.parametrize("family", RECIPES)
def test_a_run_names_what_is_deployed_and_shows_its_pictures(runs: dict[str, Path], family: str) -> None:
    result = json.loads((runs[family] / "train" / "result.json").read_text())
    assert result["score_name"] == "floor / feature-FID" and result["test_samples"] == 355
    assert [r["role"] for r in result["rows"]].count("model") == 1 and result["rows"][0]["role"] == "model"
    assert all(0 < r["score"] < 1 for r in result["rows"]), "no small network draws as well as real pictures are"
    facts = open_checkpoint(runs[family] / "train" / result["deploy"]).facts
    assert facts["form"] == result["deploy"] and Sampling(**facts["sampling"])
    for table in result["tables"]:
        assert table["rows"] and all(len(r) == len(table["columns"]) for r in table["rows"]), table["title"]
    for picture in result["pictures"]:
        assert size_of_png((runs[family] / "train" / picture["file"]).read_bytes())[0] > 100


def test_students_are_chosen_by_validation_alone(runs: dict[str, Path]) -> None:
    folder = runs["few_step"] / "train"
    outcomes = [json.loads(p.read_text())["found"] for p in folder.glob("*-0.*.json") if "timing" not in p.name]
    for form, calls in (("four", 4), ("two", 2), ("one", 1)):
        facts = open_checkpoint(folder / form).facts
        some = [o for o in outcomes if o["stage"] != "teacher" and Sampling(**o["sampling"]).calls == calls]
        best = min(some, key=lambda o: o["validation_fid"])
        assert (facts["stage"], facts["sampling"]) == (best["stage"], best["sampling"]), form


@pytest.mark.parametrize("family", RECIPES)
def test_what_is_trained_and_tested_is_kept(runs: dict[str, Path], family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = Path(shutil.copytree(runs[family], tmp_path / family))  # forms are written anew, while others read the original
    before = (run / "train" / "result.json").read_bytes()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was trained again")

    monkeypatch.setattr("edgekit.models._stages.fit", never)
    part = registry.find(Family, family)
    part.fit(recipe.fill(part.options(), RECIPES[family], family), run / "train", silent)
    assert (run / "train" / "result.json").read_bytes() == before


@pytest.mark.parametrize("engine", ["onnxruntime", "cpp"])
@pytest.mark.parametrize("family", RECIPES)
def test_the_deployed_loop_draws_the_trained_networks_pictures(bundles: dict[str, Bundle], family: str, engine: str) -> None:
    if reason := registry.load(Runtime, engine).ready():
        pytest.skip(f"not built: {reason}")
    found = examine.verify(bundles[family], engine, 60)
    assert found.passed, found


def test_openvino_and_the_fused_form_draw_them_too(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    fused = registry.find(Exporter, "fused").export(bundles["pso"], tmp_path / "fused", {})
    assert examine.verify(fused, "onnxruntime", 0).passed
    made = registry.find(Exporter, "openvino").export(bundles["few_step"], tmp_path / "ov", registry.find(Exporter, "openvino").options)
    assert examine.verify(made, "openvino", 0).passed


def test_tensorrt_rtx_builds_the_step_with_everything_between_two_calls(bundles: dict[str, Bundle], tmp_path: Path) -> None:
    try:
        version("tensorrt-rtx")
    except PackageNotFoundError:
        pytest.skip("no tensorrt-rtx: pip install 'edgekit[tensorrt-rtx]'")
    for family in ("few_step", "time_shift"):
        made = flow.export(bundles[family].folder, "tensorrt-rtx", tmp_path / family, chosen={"compute_capabilities": ["8.6"]})
        assert made.manifest.details["status"] == "built" and list(made.folder.glob("*.sm86.rtx.plan"))
        assert examine.verify(made, "tensorrt_onnx", 0).passed


def test_the_score_of_a_bundle_is_that_of_its_checkpoint(bundles: dict[str, Bundle], runs: dict[str, Path]) -> None:
    bundle, part = bundles["pso"], registry.find(Family, "pso")
    with registry.find(Runtime, "onnxruntime").open(bundle) as session:
        score = part.score(bundle.manifest.model, session.run)
    assert score.value == pytest.approx(open_checkpoint(runs["pso"] / "train" / "online").facts["score"], rel=1e-3)
    real = part.score(bundle.manifest.model, lambda given: {"image": pictures("digits").test.images})
    grey = part.score(bundle.manifest.model, lambda given: {"image": 0 * pictures("digits").test.images})
    assert grey.value < 0.05 and real.value == pytest.approx(1.0) and real.samples == score.samples == 355


def test_a_network_that_was_only_compared_is_not_deployed(runs: dict[str, Path]) -> None:
    with pytest.raises(EdgekitError, match=r"teacher-0 is 'teacher' of seed 0, one of the networks that were compared; give one"):
        registry.find(Family, "few_step").load(runs["few_step"] / "train" / "teacher-0")


def test_every_recipe_in_the_examples_can_be_read() -> None:
    root = Path(__file__).parent.parent / "examples"
    seen = set()
    for path in [*root.glob("few_step_*.toml"), *root.glob("pso_*.toml"), *root.glob("time_shift_*.toml")]:
        found = recipe.read(path)
        values = {k: v for k, v in found.values.items() if k != "deploy"}
        recipe.fill(registry.find(Family, found.family).options(), values, path.name)
        seen.add(found.family)
    assert seen == set(RECIPES)


@pytest.mark.parametrize(
    ("family", "change", "says"),
    [
        ("few_step", {"guidance": 0.5}, "guidance must be 1"), ("few_step", {"seeds": [1, 1]}, "seeds are different"), ("few_step", {"calls": 3}, "must be one of 1, 2, 4"),
        ("few_step", {"network": {"width": 12}}, "width is a multiple of 8"), ("pso", {"steps": 1}, "steps must be at least 2"),
        ("pso", {"targets": {"best": 0.0}}, "best is a share"), ("time_shift", {"loops": []}, "loops names at least one"),
        ("time_shift", {"windows": []}, "windows are of 2"), ("time_shift", {"noise_seeds": [0]}, "noise_seeds are different"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused_with_its_rule(family: str, change: dict, says: str) -> None:
    with pytest.raises(EdgekitError, match=says):
        recipe.fill(registry.find(Family, family).options(), {**RECIPES[family], **change}, "mine.toml")


def test_a_reward_that_is_not_there_lists_those_that_are(runs: dict[str, Path], tmp_path: Path) -> None:
    part = registry.find(Family, "pso")
    options = recipe.fill(part.options(), RECIPES["pso"], "pso")
    for reward, says in (("inc", "ink"), ("digit=ten", "0, 1, 2")):
        with pytest.raises(EdgekitError, match=says):
            part.fit(dataclasses.replace(options, preference=Preference(reward=reward)), tmp_path, silent)


def test_a_student_is_tuned_to_draw_another_value_than_it_is_asked_for(runs: dict[str, Path], tmp_path: Path) -> None:
    """The style transfer of examples/pso_style_emoji.toml, between two digits; teacher and student are those of another run."""
    shutil.copytree(runs["pso"] / "train", tmp_path / "train")
    part = registry.find(Family, "pso")
    change = {"targets": {"show": "digit=0", "asked": "digit=1"}, "preference": {"reward": "digit=0", "pairs": 16}, "deploy_form": "offline"}
    options = recipe.fill(part.options(), {**RECIPES["pso"], **change, "offline": {**QUICK, "epochs": 4, "batch_size": 16, "optimizer": "adamw", "learning_rate": 0.002}}, "pso")
    before = (tmp_path / "train" / "student-0.timing.json").stat().st_mtime_ns
    assert part.fit(options, tmp_path / "train", silent) == tmp_path / "train" / "offline"
    assert (tmp_path / "train" / "student-0.timing.json").stat().st_mtime_ns == before, "the student is another's and not trained again"
    result = json.loads((tmp_path / "train" / "result.json").read_text())
    rows, kept = ({r[0]: dict(zip(t["columns"], r, strict=True)) for r in t["rows"]} for t in result["tables"][:2])
    assert result["test_samples"] == (pictures("digits").test.conditions == 1).sum()
    assert rows["diffusion loss (control)"]["gain"] > 0 == rows["student as distilled"]["gain"]
    assert all(r["shown"] is None for r in rows.values()), "the only head is the rewarded one"


class Stopped(Exception):
    """Where a test breaks a training off."""


@pytest.mark.parametrize("kind", ["consistency", "matching", "shortcut"])
def test_a_broken_off_distillation_ends_with_the_same_weights(tmp_path: Path, kind: str) -> None:
    split = pictures("digits")
    torch.manual_seed(0)
    teacher = UNet(1, 8, (10,), width=8)
    plan = Plan(2, 512, 0.01, optimizer="muon", schedule="constant", average=0.9)

    def parts():
        no_quality = lambda net: float(net.last.weight.abs().mean())  # noqa: E731 - the later epoch is kept, for the weights grow from zero
        mine = {"consistency": (distil.ConsistencyTask, distil.WithTarget), "shortcut": (distil.ShortcutTask, distil.WithTarget)}
        torch.manual_seed(1)  # of the weights for jumps
        net = copy.deepcopy(teacher)
        if kind == "matching":
            return distil.Matched(net, teacher), distil.MatchingTask(split, copy.deepcopy(teacher), 1.5, no_quality, 2)
        task, learner = mine[kind]
        return learner(distil.with_jumps(net) if kind == "shortcut" else net), task(split, copy.deepcopy(teacher), 1.5, no_quality)

    def run(folder: Path, progress=silent):
        module, task = parts()
        fit(launch(), module, task, plan, seed=0, state_folder=folder, progress=progress, what="net")
        return module.state_dict()

    def stop(_: str, done: int, __: int) -> None:
        if done == 1:
            raise Stopped

    whole = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        run(tmp_path / "parts", stop)
    again = run(tmp_path / "parts")
    assert all(torch.equal(v, again[k]) for k, v in whole.items())


def test_two_steps_from_one_noise_are_the_same_wherever_they_are_drawn(bundles: dict[str, Bundle], runs: dict[str, Path]) -> None:
    """The seed and the place in the batch decide, so that a longer batch begins with the pictures of a shorter one."""
    net = loaded(open_checkpoint(runs["pso"] / "train" / "online"))
    condition = torch.arange(10)[:, None]
    with registry.find(Runtime, "onnxruntime").open(bundles["pso"]) as session:
        three, ten = (session.run({"condition": condition[:n].numpy()}, 11)["image"] for n in (3, 10))
        other = session.run({"condition": condition[:3].numpy()}, 12)["image"]
    sampling = Sampling(**open_checkpoint(runs["pso"] / "train" / "online").facts["sampling"])
    assert np.abs(ten - sample(net, sampling, condition, 11).numpy()).max() < 1e-4
    assert np.abs(three - ten[:3]).max() < 1e-4 and np.abs(three - other).max() > 0.1
