"""Latent inversion with timestep-aware sampling: its arithmetic, its choices, and prepared edits on real engines."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import examine, quantise, recipe, registry
from edgekit.bundle import Bundle
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import silent
from edgekit.models._diffusion.data import Pictures, pictures
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.schedule import LEVELS, added, clean, noise, noised, signal, velocity
from edgekit.models._latent_inversion import edits, invert, plans, tables
from edgekit.models._latent_inversion.edits import Asked
from edgekit.models._latent_inversion.step import Step
from edgekit.models._latent_inversion.tables import Choice, Edited, Outcome
from edgekit.parts import Exporter, Family, Runtime
from edgekit.picture_grid import size_of_png

RECIPE = {
    "network": {"width": 16},
    "teacher": {"epochs": 4, "batch_size": 64, "learning_rate": 0.02, "optimizer": "muon", "schedule": "trapezoid", "average": 0.9},
    "inversion": {"steps": 6, "guidance": [3.0], "switch": [0.2, 0.5], "keep": [0.0], "blend": [1.0], "text_updates": 4, "null_updates": 3},
    "edits": {"validation": 12, "test": 16, "deployed": 9},
}
STEPS, GUIDANCE = 8, 3.0


@pytest.fixture(scope="module", autouse=True)
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder of this module, with classifiers in it that are trained in seconds."""
    from edgekit.models._diffusion import quality, rewards, yardstick

    base = tmp_path_factory.mktemp("latent_inversion")
    patch = pytest.MonkeyPatch()
    for module in (rewards, yardstick):
        patch.setattr(module, "folder", lambda name, own=module.__name__: base / own / name)
    patch.setitem(quality.EPOCHS, "digits", 6)
    yardstick.cached.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield base
    torch.set_num_threads(threads)
    yardstick.cached.cache_clear()
    patch.undo()


@pytest.fixture(scope="module")
def family() -> Family:
    return registry.find(Family, "latent_inversion")


@pytest.fixture(scope="module")
def run(shared: Path, family: Family) -> Path:
    return family.fit(recipe.fill(family.options(), RECIPE, "tiny"), shared / "tiny" / "train", silent).parent.parent


@pytest.fixture(scope="module")
def bundle(run: Path, family: Family) -> Bundle:
    exporter = registry.find(Exporter, "onnx")
    return exporter.export(family.load(run / "train" / "edit"), run / "onnx", exporter.options)


@pytest.fixture(scope="module")
def step() -> Step:
    """A network whose answers follow picture, level and text, and mean nothing."""
    torch.manual_seed(3)
    net = UNet(1, 8, (10,), width=8)
    torch.nn.init.normal_(net.last.weight, std=0.1)
    return Step(net.requires_grad_(False)).eval()


@pytest.fixture(scope="module")
def known(step: Step) -> invert.Inverted:
    part = pictures("digits").validation.take(np.arange(4))
    return invert.inverted(step, torch.from_numpy(part.images), invert.texts(step.net, part.conditions), STEPS, GUIDANCE)


@pytest.fixture(scope="module")
def target(step: Step) -> torch.Tensor:
    return invert.texts(step.net, np.array([[9], [8], [7], [6]]))


# ---- the arithmetic


@pytest.mark.parametrize(("rows", "way"), [(plans.down(7, 1.0), -1), (plans.up(7), 1)])
def test_a_turn_is_the_step_of_ddim(rows: plans.Rows, way: int) -> None:
    """x' = a' x0 + b' eps with what the network says of x (Song et al., ICLR 2021, eq. 12 with eta 0)."""
    rng = np.random.default_rng(0)
    x, v = rng.standard_normal((2, 3, 1, 4, 4))
    for level, (cos, sin, *_) in zip(rows["level"][:, 0].astype(np.float64), rows["coefficients"].astype(np.float64), strict=True):
        at, to = np.full((3, 1), level), np.full((3, 1), level + way * LEVELS / 7)
        landed = signal(to)[..., None, None] * clean(x, v, at) + noise(to)[..., None, None] * added(x, v, at)
        np.testing.assert_allclose(cos * x + sin * v, landed, atol=1e-6)
    assert rows["level"][0, 0] == (0 if way == 1 else LEVELS)


def test_a_text_is_the_sum_of_what_stands_for_the_conditions() -> None:
    torch.manual_seed(0)
    net = UNet(3, 8, (2, 5), width=8).eval()
    torch.nn.init.normal_(net.last.weight)
    x, levels, condition = torch.randn(3, 3, 8, 8), torch.tensor([[10.0], [500], [990]]), torch.tensor([[0, 4], [2, 5], [1, 0]])
    said, told = net(x, levels, condition), net(x, levels, net.embedded(condition))
    assert torch.allclose(said, told, atol=1e-5) and not torch.allclose(said, net(x, levels, 0 * net.embedded(condition)), atol=1e-3)


def test_up_and_down_with_stored_offsets_is_the_picture_again(step: Step, known: invert.Inverted) -> None:
    back = invert.restored(step, known, GUIDANCE, True)
    assert (back - known.pivots[0]).abs().max() < 1e-5
    assert (invert.restored(step, known, GUIDANCE, False) - known.pivots[0]).abs().max() > 1e-2, "else the offsets would have nothing to do"


def test_offsets_are_what_each_step_misses_of_the_next_pivot(step: Step, known: invert.Inverted) -> None:
    bank, always = torch.zeros_like(known.offsets), torch.zeros(4, 1, dtype=torch.int64)
    rows = {n: torch.from_numpy(t) for n, t in plans.restored(STEPS, GUIDANCE).items()}
    for i in (0, 3, STEPS - 1):
        landed, _ = step(known.pivots[STEPS - i], bank, known.source, known.source, always, *(t[i] for t in rows.values()))
        assert torch.allclose(known.pivots[STEPS - 1 - i] - landed, known.offsets[i], atol=1e-6)


def test_without_guidance_no_empty_text_changes_anything(step: Step, known: invert.Inverted, target: torch.Tensor) -> None:
    some, others = (torch.randn(STEPS, *known.source.shape, generator=torch.Generator().manual_seed(s)) for s in (1, 2))
    unguided = [invert.edited_by_null_texts(step, known, e, target, 2, 1.0) for e in (some, others)]
    guided = [invert.edited_by_null_texts(step, known, e, target, 2, GUIDANCE) for e in (some, others)]
    assert torch.allclose(*unguided, atol=1e-5) and not torch.allclose(*guided, atol=1e-2)


def test_null_texts_lead_nearer_to_the_source_than_the_learned_empty_text(step: Step, known: invert.Inverted) -> None:
    empty = invert.null_texts(step, known, GUIDANCE, 10, 0.1)
    led = invert.edited_by_null_texts(step, known, empty, known.source, STEPS, GUIDANCE)
    plain = invert.restored(step, known, GUIDANCE, False)
    assert (led - known.pivots[0]).square().mean() < 0.5 * (plain - known.pivots[0]).square().mean()
    first = step.net.embedded(step.none).expand(STEPS, *known.source.shape)
    assert torch.allclose(invert.edited_by_null_texts(step, known, first, known.source, STEPS, GUIDANCE), plain, atol=1e-5)


# ---- the switch


def test_a_switch_behind_the_last_step_is_the_source_and_one_at_the_first_knows_no_source(
    step: Step, known: invert.Inverted, target: torch.Tensor
) -> None:  # fmt: skip
    never = invert.edited(step, known, target, torch.full((4, 1), STEPS), GUIDANCE, 0.0)
    assert (never - known.pivots[0]).abs().max() < 1e-5
    at_once = invert.edited(step, known, target, torch.zeros(4, 1, dtype=torch.int64), GUIDANCE, 0.0)
    other = dataclasses.replace(known, source=known.source.flip(0), offsets=known.offsets + 1)
    assert torch.equal(at_once, invert.edited(step, other, target, torch.zeros(4, 1, dtype=torch.int64), GUIDANCE, 0.0))
    assert not torch.allclose(at_once, never, atol=1e-2)


def test_every_picture_has_a_switch_of_its_own(step: Step, known: invert.Inverted, target: torch.Tensor) -> None:
    """And an edit that begins at the pivot of its switch is that of the whole way."""
    mixed = invert.edited(step, known, target, torch.tensor([[0], [2], [5], [STEPS]]), GUIDANCE, 0.5)
    for i, switch in enumerate((0, 2, 5, STEPS)):
        assert torch.allclose(mixed[i], invert.edited(step, known, target, switch, GUIDANCE, 0.5)[i], atol=1e-5), switch


def test_kept_offsets_are_added_after_the_switch_by_their_factor(step: Step, known: invert.Inverted, target: torch.Tensor) -> None:
    """In the last step, where nothing follows: half the factor is half of what the offset adds."""
    ends = [invert.edited(step, known, target, STEPS - 1, GUIDANCE, keep) for keep in (0.0, 0.5, 1.0)]
    assert torch.allclose(ends[1] - ends[0], 0.5 * known.offsets[-1], atol=1e-6) and torch.allclose(ends[2] - ends[0], known.offsets[-1], atol=1e-6)


def test_an_optimised_text_predicts_its_picture_better_at_noise_that_it_did_not_see(run: Path) -> None:
    from edgekit.models._diffusion.stages import loaded

    net = loaded(open_checkpoint(run / "train" / "teacher-0")).requires_grad_(False)
    before = {n: t.clone() for n, t in net.state_dict().items()}
    part = pictures("digits").validation.take(np.arange(6))
    images, begin = torch.from_numpy(part.images), invert.texts(net, part.conditions)
    found = invert.optimised(net, images, begin, 40, 0.03)
    rng = torch.Generator().manual_seed(9)
    many, levels = images.repeat(40, 1, 1, 1), torch.rand(240, 1, generator=rng) * LEVELS
    eps = torch.randn(many.shape, generator=rng)
    errors = [(net(noised(many, eps, levels), levels, t.repeat(40, 1)) - velocity(many, eps, levels)).square().mean() for t in (begin, found)]
    assert errors[1] < 0.97 * errors[0] and all(torch.equal(t, before[n]) for n, t in net.state_dict().items())


# ---- what is asked and how it is judged


def test_an_edit_changes_one_head_to_another_value_and_is_the_same_every_time() -> None:
    rng = np.random.default_rng(1)
    part = Pictures(rng.random((50, 1, 8, 8), np.float32), rng.integers(0, (2, 3, 4), (50, 3)), ("hat", "skin", "hair"), (("no", "yes"), ("a", "b", "c"), tuple("wxyz")))
    asked = edits.held_out(part, ("hat", "hair"), 40)
    changed = asked.shows != asked.wanted
    assert (changed.sum(1) == 1).all() and not changed[:, 1].any() and changed[:, 0].any() and changed[:, 2].any()
    assert (asked.wanted < (2, 3, 4)).all() and (asked.wanted >= 0).all() and len(set(asked.wanted[changed[:, 2], 2])) == 4
    for image, shows in zip(asked.images, asked.shows, strict=True):
        row = int(np.flatnonzero((part.images == image).all((1, 2, 3)))[0])
        assert (part.conditions[row] == shows).all()
    again = edits.held_out(part, ("hat", "hair"), 40)
    assert (again.wanted == asked.wanted).all() and again.names == asked.names and "hat no to yes" in " ".join(asked.names)
    with pytest.raises(EdgekitError, match=r"51 edits were asked for, but this part has 50 pictures; ask for fewer"):
        edits.held_out(part, (), 51)
    with pytest.raises(EdgekitError, match=r"no head 'hats'; there are: hair, hat, skin"):
        edits.held_out(part, ("hats",), 5)


class Reader(torch.nn.Module):
    """A classifier that reads two attributes off the first two pixels."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(torch.stack([-images[:, 0, 0, k], images[:, 0, 0, k]], 1) for k in (0, 1))


def test_only_what_was_to_change_is_accepted_and_the_rest_is_told_of_the_source() -> None:
    signs = lambda *rows: np.array(rows, np.float32)[:, None, None, :]  # noqa: E731 - pictures (N, 1, 1, 2)
    asked = Asked(signs((-1, -1), (-1, 1), (1, 1)), np.array([[0, 0], [0, 1], [1, 1]]), np.array([[1, 0], [1, 1], [1, 0]]), ("a", "b", "c"))
    made = signs((1, 1), (-1, 1), (1, -1))
    assert edits.accepted(Reader(), made, asked).tolist() == [True, False, True]  # type: ignore[arg-type]
    assert edits.rest_kept(Reader(), made, asked) == pytest.approx(2 / 3)  # type: ignore[arg-type]
    np.testing.assert_allclose(edits.away(made, asked), [2, 0, np.sqrt(2)])
    np.testing.assert_allclose(edits.psnr_db(np.full((2, 1, 1, 4), 0.5), np.array([[[[0.5] * 4]], [[[0.3] * 4]]])), [edits.MOST_DB, 20.0])


def test_the_nearest_of_the_ways_with_enough_accepted_edits_is_chosen() -> None:
    ways = [Choice(3.0, s, 0.0, 1.0) for s in (0.2, 0.4, 0.6)]
    seeds = [[dataclasses.replace(w, accepted=a, away=d) for w, a, d in zip(ways, accepted, (0.7, 0.5, 0.3), strict=True)] for accepted in ((1, 0.9, 0.5), (1, 0.8, 0.9))]
    assert [c.switch for c in tables.chosen(seeds, 0.85)] == [0.4, 0.2, 0.6], "means over seeds: 1, 0.85, 0.7"
    assert [c.switch for c in tables.chosen(seeds, 1.0)] == [0.2, 0.4, 0.6]
    assert tables.chosen([s[1:] for s in seeds], 0.99)[0].switch == 0.4, "the most accepted where none has enough"


def test_figures_of_pairs_and_of_the_sweep() -> None:
    nearer, farther = [0.1 * k for k in range(1, 11)], [0.1 * k + 0.05 + 0.01 * k for k in range(1, 11)]
    one = Edited([True] * 9 + [False], nearer, nearer, None)
    other = dataclasses.replace(one, away=farther, accepted=[False] + [True] * 9)
    falling = [Edited([True] * (11 - i) + [False] * i, [1.0 - 0.05 * i], [0.0], None) for i in range(11)]
    outcome = Outcome(0, {}, {"injected": one, "at once": other}, falling)
    p, count, pairs, p_both, both = tables.paired([outcome], lambda e: e.away)
    assert (count, pairs, both) == (10, 10, 8) and p == pytest.approx(2**-10) and p_both == pytest.approx(2**-8)
    assert tables.monotone([outcome]) == (1.0, 1.0)
    turned = dataclasses.replace(outcome, sweep=falling[::-1])
    assert tables.monotone([outcome, turned]) == (-1.0, -1.0), "the lowest of the seeds"
    assert Outcome.from_json(json.loads(json.dumps(outcome.to_json()))) == outcome


# ---- a run, and what is deployed


def test_a_run_says_what_came_of_it(run: Path) -> None:
    result = json.loads((run / "train" / "result.json").read_text())
    assert (result["deploy"], result["test_samples"], result["rows"][0]["role"]) == ("edit", 16, "model")
    again, made, sweep, choices, _ = result["tables"]
    db = {r[0]: r[1] for r in again["rows"]}
    assert db["stored offsets"] > 60 > db["plain, without guidance"] > db["plain"]
    away = {r[0]: r[4] for r in made["rows"]}
    assert away["source's text for 50 % of the steps, then the target's"] < away["the target's text from the first step"] < away["drawn anew, from other noise"]
    assert [r[0] for r in sweep["rows"]] == [f"{10 * k} %" for k in range(11)] and sweep["rows"][-1][1:] == [sweep["rows"][-1][1], 0, 0]
    assert sorted(r[1] for r in choices["rows"]) == ["20 %", "50 %"]
    assert all(len(r) == len(t["columns"]) for t in result["tables"] for r in t["rows"])
    assert size_of_png((run / "train" / "edits.png").read_bytes())[0] == 2 + 8 * 66


def test_what_is_trained_and_judged_is_kept(run: Path, family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (run / "train" / "result.json").read_bytes()
    monkeypatch.setattr("edgekit.models._stages.fit", None)
    monkeypatch.setattr("edgekit.models._latent_inversion.fit.Fit._judged", None)
    family.fit(recipe.fill(family.options(), RECIPE, "tiny"), run / "train", silent)
    assert (run / "train" / "result.json").read_bytes() == before


@pytest.mark.parametrize("engine", ["onnxruntime", "cpp"])
def test_every_task_answers_as_torch_does(bundle: Bundle, engine: str) -> None:
    if reason := registry.load(Runtime, engine).ready():
        pytest.skip(f"not built: {reason}")
    assert bundle.task_names[0] == "edit"
    found = examine.verify(bundle, engine, None)
    assert found.passed and set(found.tasks) == {"reconstruction", "invert", "edit-own"}, found


def test_openvino_answers_so_too(bundle: Bundle, run: Path) -> None:
    exporter = registry.find(Exporter, "openvino")
    found = examine.verify(exporter.export(bundle, run / "openvino", exporter.options), "openvino", None)
    assert found.passed, found


def test_the_device_prepares_an_edit_of_its_own(bundle: Bundle) -> None:
    """A picture that the bundle does not hold: inverted by one task, restored and edited by another."""
    runtime, part = registry.find(Runtime, "onnxruntime"), pictures("digits").validation.take(np.arange(3, 6))
    with runtime.open(bundle.of_task("invert")) as session:
        prepared = session.run({"image": part.images, "condition": part.conditions})
    wanted = (part.conditions + 3) % 10
    with runtime.open(bundle.of_task("edit-own")) as session:
        ask = lambda switch: session.run({**prepared, "condition": part.conditions, "wanted": wanted, "switch": np.array(switch)[:, None]})["image"]  # noqa: E731
        same, mixed, other = ask([6, 6, 6]), ask([6, 2, 0]), ask([0, 0, 0])
    assert np.abs(same - part.images).max() < 1e-4 and np.abs(mixed[0] - part.images[0]).max() < 1e-4
    assert np.abs(mixed[2] - other[2]).max() < 1e-4 and np.abs(other - part.images).max() > 0.1


def test_the_source_comes_back_from_the_bundle_alone(bundle: Bundle) -> None:
    asked = edits.held_out(pictures("digits").test, (), 16)
    with registry.find(Runtime, "onnxruntime").open(bundle.of_task("reconstruction")) as session:
        back = session.run({"edit": np.array([[4], [0], [8]])})["image"]
    assert np.abs(back - asked.images[[4, 0, 8]]).max() < 1e-4


def test_the_score_counts_edits_that_show_what_was_wanted(bundle: Bundle, family: Family) -> None:
    asked = edits.held_out(pictures("digits").test, (), 16).first(9)
    real = pictures("digits").train
    shown = np.stack([real.images[np.flatnonzero(real.conditions[:, 0] == w)[0]] for w in asked.wanted[:, 0]])
    scored = family.score(bundle.manifest.model, lambda given: {"image": shown[given["edit"][:, 0]]})
    sources = family.score(bundle.manifest.model, lambda given: {"image": asked.images[given["edit"][:, 0]]})
    assert scored.value > 0.7 > 0.3 > sources.value and scored.samples == 9
    assert family.score(bundle.manifest.model, lambda given: {"image": shown[given["edit"][:, 0]]}, 4).samples == 4


def test_samples_are_no_test_pictures_and_fit_their_tasks(bundle: Bundle, family: Family) -> None:
    model, held = bundle.manifest.model, edits.held_out(pictures("digits").validation, (), 12)
    runtime = registry.find(Runtime, "onnxruntime")
    assert family.samples(model, 5)["edit"].tolist() == [[9], [10], [11], [12], [13]]
    with runtime.open(bundle.of_task("reconstruction")) as session:
        assert np.abs(session.run(family.task_samples(model, "reconstruction", 5))["image"] - held.images[:5]).max() < 1e-4
    for task in ("invert", "edit-own"):
        with runtime.open(bundle.of_task(task)) as session:
            assert all(np.isfinite(v).all() for v in session.run(family.task_samples(model, task, 5)).values())
    assert family.held_out(model, 3)["edit"].tolist() == [[0], [1], [2]]


def test_a_calibrator_cuts_stored_offsets_along_the_batch_and_not_along_the_steps(
    bundle: Bundle, family: Family, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    monkeypatch.setattr(quantise, "BATCH", 2)
    trials = object.__new__(quantise.Trials)  # of its many trials only the cutting of samples is looked at
    trials.source, given = bundle, dict(family.task_samples(bundle.manifest.model, "edit-own", 5))
    given["offsets"] = np.arange(given["offsets"].size, dtype=np.float32).reshape(given["offsets"].shape)
    cut = trials._batches(given, bundle.of_task("edit-own"))
    assert [(b["latent"].shape[0], b["offsets"].shape[:2]) for b in cut] == [(2, (6, 2))] * 2
    assert np.array_equal(cut[1]["offsets"], given["offsets"][:, 2:4]) and np.array_equal(cut[1]["wanted"], given["wanted"][2:4])


def test_a_picture_of_ones_own_is_prepared_in_place_of_the_held_out_ones(run: Path, family: Family, tmp_path: Path) -> None:
    from PIL import Image

    image = pictures("digits").test.take(np.flatnonzero(pictures("digits").test.conditions[:, 0] == 3)[:1]).images[0, 0]
    Image.fromarray(((image + 1) * 127.5).round().astype(np.uint8)).resize((64, 64), Image.Resampling.NEAREST).save(tmp_path / "three.png")
    mine = {**RECIPE, "edit": {"picture": str(tmp_path / "three.png"), "to": ["digit=8", "digit=5"], "shows": ["digit=3"]}}
    assert family.fit(recipe.fill(family.options(), mine, "mine"), run / "train", silent) == run / "train" / "own"
    trained, exporter = family.load(run / "train" / "own"), registry.find(Exporter, "onnx")
    made = exporter.export(trained, tmp_path / "own", exporter.options)
    with registry.find(Runtime, "onnxruntime").open(made.of_task("reconstruction")) as session:
        back = session.run({"edit": np.array([[0], [1]])})["image"]
    assert np.abs(back[0, 0] - image).max() < 2 / 255 and np.abs(back[1] - back[0]).max() < 1e-4
    assert open_checkpoint(run / "train" / "own").facts["names"] == ["3 to 8", "3 to 5"]
    (tmp_path / "three.png").rename(tmp_path / "gone.png")  # as on a device
    assert family.score(made.manifest.model, lambda given: {"image": np.zeros((2, 1, 8, 8), np.float32)}).samples == 2
    assert family.samples(made.manifest.model, 9)["edit"].tolist() == [[0], [1]]
    (tmp_path / "gone.png").rename(tmp_path / "three.png")
    assert size_of_png((run / "train" / "own.png").read_bytes())[0] > 100
    for change, says in (({"to": ["digit=3"]}, "shows digit=3 already"), ({"to": ["digit=ten"]}, "no value of digit"), ({"picture": "none.png"}, r"no picture at none\.png")):
        with pytest.raises(EdgekitError, match=says):
            family.fit(recipe.fill(family.options(), {**mine, "edit": {**mine["edit"], **change}}, "mine"), run / "train", silent)


def test_a_network_without_edits_is_not_deployed(run: Path, family: Family) -> None:
    with pytest.raises(EdgekitError, match=r"teacher-0 is the network of seed 0, without edits; give the folder 'edit' or 'own' beside it"):
        family.load(run / "train" / "teacher-0")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seeds": []}, "seeds are different"), ({"inversion": {"steps": 1}}, "steps must be at least 2"), ({"inversion": {"guidance": [0.5]}}, "guidance is one or more numbers from 1"),
        ({"inversion": {"switch": []}}, "switch is one or more numbers from 0 to 1"), ({"inversion": {"null_rate": 0.0}}, "null_rate above 0"),
        ({"edits": {"deployed": 101}}, "deployed at most test"), ({"edits": {"accepted": 0.0}}, "accepted is a share"), ({"edit": {"to": ["digit=8"]}}, "picture must name a file"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused_with_its_rule(family: Family, change: dict, says: str) -> None:
    with pytest.raises(EdgekitError, match=says):
        recipe.fill(family.options(), {**RECIPE, **change}, "mine.toml")


def test_every_recipe_in_the_examples_can_be_read(family: Family) -> None:
    found = {p.stem: recipe.read(p) for p in (Path(__file__).parent.parent / "examples").glob("latent_inversion_*.toml")}
    assert set(found) == {"latent_inversion_tiny", "latent_inversion_digits", "latent_inversion_avatars"}
    for name, r in found.items():
        recipe.fill(family.options(), {k: v for k, v in r.values.items() if k != "deploy"}, name)
