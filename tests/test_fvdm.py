"""Video diffusion with a level per frame: clips, levels, films with known frames, the tables, and every task of the bundle on real engines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import pytest
import torch

import edgekit
from edgekit import data, examine, flow, recipe, registry
from edgekit.bundle import Bundle
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import silent
from edgekit.models._diffusion import quality
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.plans import Sampling
from edgekit.models._diffusion.sampler import sample
from edgekit.models._diffusion.schedule import LEVELS, noised, velocity
from edgekit.models._fvdm import bars, clips, deploy, frames, outcome
from edgekit.models._fvdm.film import FilmStep, GuidedStep, Turn, draw_films, long_films, replaced_films
from edgekit.models._fvdm.options import Options
from edgekit.models._fvdm.plans import DOUBT_MOST, ENDS, PAIR, FilmPlan, Loop, rows
from edgekit.models._fvdm.stages import loaded
from edgekit.models._fvdm.training import FilmTask, levels_of, new_net
from edgekit.parts import Exporter, Family, Runtime
from edgekit.picture_grid import size_of_png

ROOT = Path(__file__).parent.parent
F = clips.FRAMES
SMALL = {"networks": ["vector", "scalar", "paper"], "steps": 3, "overlap": 3, "guidance": [1.5, 3.0], "history": [1.2, 1.5], "doubt": [40.0], "data": {"clips": 128}, "network": {"width": 8}}
SMALL |= {"training": {"epochs": 2, "batch_size": 64, "learning_rate": 0.02, "optimizer": "muon", "schedule": "constant", "average": 0.9}}


@pytest.fixture(scope="module", autouse=True)
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Few clips, few long films, a feature network that learns for a moment: the way is the same."""
    folder = tmp_path_factory.mktemp("fvdm")
    whole = clips.clips("moving_small")
    few = clips.ClipSplit("moving_small", whole.train.first(200), whole.validation.first(40), whole.test.first(40))
    patch = pytest.MonkeyPatch()
    patch.setitem(clips.LOADERS, "moving_small", lambda: few)
    patch.setitem(quality.EPOCHS, "frames of moving_small", 1)
    patch.setattr(frames, "folder", lambda name: folder / "features" / name)
    patch.setattr(outcome, "LONG_FILMS", 4)
    patch.setattr(outcome, "LONG_FRAMES", 34)
    for cached in (clips.clips, frames.cached):
        cached.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two processes with two threads each train ten times slower on two cores
    yield folder
    torch.set_num_threads(threads)
    patch.undo()
    for cached in (clips.clips, frames.cached):
        cached.cache_clear()


def options(**change: object) -> Options:
    filled: Options = recipe.fill(Options, {**SMALL, **change}, "mine.toml")
    return filled


@pytest.fixture(scope="module")
def run(small: Path) -> Path:
    registry.find(Family, "fvdm").fit(options(), small / "train", silent)
    return small / "train"


@pytest.fixture(scope="module")
def bundle(run: Path, small: Path) -> Bundle:
    part = registry.find(Exporter, "onnx")
    return part.export(registry.find(Family, "fvdm").load(run / "films"), small / "onnx", part.options)


@pytest.fixture(scope="module")
def net() -> UNet:
    """One whose answers depend on everything that it is given: its last layer is not zero."""
    torch.manual_seed(0)
    made = new_net(clips.clips("moving_small").train, 8).eval()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return made


# ---- clips


def test_a_moving_digit_goes_one_pixel_a_frame_and_bounces():
    part = clips.clips("moving_small").train
    lit = part.films[:, :, 0].astype(np.float64)
    assert part.films.shape == (200, F, 1, 12, 12)
    assert (lit.sum((2, 3)) == lit.sum((2, 3))[:, :1]).all(), "the whole digit is in every frame"
    places = [(lit.sum(axis) * np.arange(12)).sum(2) / lit.sum((2, 3)) for axis in (3, 2)]  # centre of mass, down and across
    for place in places:
        steps = np.diff(place, axis=1)
        assert np.allclose(np.abs(steps), 1), "one pixel a frame, in both directions"
        turns = steps[:, 1:] * steps[:, :-1] < 0
        assert turns.any(1).mean() > 0.5 and turns.sum(1).max() <= 2, "four pixels of room: it turns within eight frames, and not at once again"


def test_an_epoch_is_a_piece_of_endless_passes():
    split = clips.clips("moving_small")
    task = FilmTask(split, "scalar", 128)
    seen = np.concatenate([task._rows(epoch, 3, 64) for epoch in range(1, 26)])  # 25 epochs of 128 of 200 clips: 16 passes
    assert all(sorted(piece) == list(range(200)) for piece in seen.reshape(16, 200).tolist())
    assert not np.array_equal(seen[:200], seen[200:400])
    one, two = (next(iter(task.batches("train", epoch, 3, 64))) for epoch in (4, 4))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


@pytest.mark.parametrize(("name", "channels", "count"), [("moving_mnist", 1, 11_000), ("emoji", 3, 279), ("radar", 1, None)])
def test_clips_of_the_data_folder(name: str, channels: int, count: int | None):
    needed = {"moving_mnist": "mnist", "emoji": "animated_emoji", "radar": "radar_nowcast"}[name]
    if data.folder(needed) is None:
        pytest.skip(f"no {needed} in EDGEKIT_DATA")
    split = clips.clips(name)
    parts = (split.train, split.validation, split.test)
    assert all(p.films.shape[1:] == (F, channels, 16, 16) and len(p) == len(p.conditions) for p in parts)
    assert count is None or sum(map(len, parts)) == count
    there = [{f.tobytes() for f in p.films[:, 0]} for p in parts]
    shared = [len(a & b) for a, b in ((there[0], there[1]), (there[0], there[2]), (there[1], there[2]))]
    assert shared == [0, 0, 0], "no part knows a first frame of another"
    assert all(p.conditions.min() >= 0 and p.conditions.max() < len(p.values) for p in parts)
    assert bars.energy(split.test.pixels()) > 0.01, "they move"


def test_clips_that_are_not_there_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(EdgekitError, match="moving_small"):
        clips.clips("moving_smal")
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    (tmp_path / "radar_nowcast").mkdir()
    for name, says in (("emoji", "no data set 'animated_emoji'"), ("radar", r"has no radar\.npz; complete")):
        clips.clips.cache_clear()
        with pytest.raises(EdgekitError, match=says):
            clips.clips(name)


# ---- levels in training


def test_each_kind_has_the_levels_that_it_says():
    rng = np.random.default_rng(1)
    drawn = [levels_of("vector", 32, rng) for _ in range(100)]
    found, known = (np.concatenate([d[i].reshape(8, 4, F) for d in drawn], 1) for i in range(2))  # eighths of every batch
    assert found.shape == (8, 400, F) and found.min() >= 0 and found.max() <= LEVELS and not known[3:].any()
    count = known[:3].sum(2)
    assert count.min() == 1 and count.max() == 6
    rest = np.where(known[:3], np.nan, found[:3])
    assert np.array_equal(np.nanmin(rest, 2), np.nanmax(rest, 2)), "unknown frames share a level"
    assert 0.30 < (known[:3, :, :2].all(2) & (count == 2)).mean() < 0.42, "the first two: 0.35, and now and then by chance"
    told = np.where(known[:3], found[:3], np.nan)
    assert np.array_equal(np.nanmin(told, 2), np.nanmax(told, 2)) and np.nanmax(told) <= DOUBT_MOST, "known frames share one too"
    assert 0.2 < (np.nanmax(told, 2) > 0).mean() < 0.3, "a quarter of them a little above 0"
    assert (np.nanmax(told, 2) <= np.nanmin(rest, 2)).all(), "what is known is never noisier than what is to be said"
    assert (np.ptp(found[3:7], 2) == 0).all() and (found[3:7] > 0).all()
    assert (np.ptp(found[7], 1) > 0).all() and abs(np.corrcoef(found[7].T)[0, 1]) < 0.15
    scalar, unknown = levels_of("scalar", 400, rng)
    assert (np.ptp(scalar, 1) == 0).all() and abs(scalar.mean() - 500) < 5, "one in each of 400 equal parts"
    paper = np.concatenate([levels_of("paper", 500, rng)[0] for _ in range(10)])
    assert 0.17 < (np.ptp(paper, 1) > 0).mean() < 0.23 and not unknown.any()


def test_known_frames_cost_nothing_and_all_others_count():
    split = clips.clips("moving_small")
    task = FilmTask(split, "vector", 128)
    batch = next(iter(task.batches("train", 1, 0, 64)))
    films, _, levels, said, eps = batch

    def but_for_known(x: torch.Tensor, told: torch.Tensor, _: torch.Tensor) -> torch.Tensor:
        assert torch.equal(x, noised(films, eps, levels)) and torch.equal(told, levels)
        right = velocity(films, eps, levels).reshape(64, F, -1)
        return torch.where(said[..., None], right, right + 100).reshape(x.shape)

    assert not said.all() and (levels[said] > 0).all() and task.loss(but_for_known, batch) == 0
    zero = task.loss(lambda x, *_: 0 * x, batch)
    v = velocity(films, eps, levels).reshape(64, F, -1)
    assert torch.isclose(zero, v[said].square().mean())


def test_a_condition_is_told_as_often_as_it_says():
    split = clips.clips("moving_small")
    for kind, free in (("vector", 0.2), ("scalar", 0.5)):
        found = [b for epoch in range(1, 9) for b in FilmTask(split, kind, 128).batches("train", epoch, 0, 64)]
        untold = torch.cat([b[1][:, 0] == 10 for b in found]).float()
        known = torch.cat([~b[3].all(1) for b in found])
        assert abs(float(untold[~known].mean()) - free) < 0.06, kind
        assert kind == "scalar" or abs(float(untold[known].mean()) - 0.5) < 0.08, kind


# ---- plans and films


def test_rows_say_what_happens_to_every_frame():
    plan = rows(FilmPlan(5, PAIR))
    a, b, by_guess, by_eps, hold = plan["coefficients"].transpose(1, 0, 2)
    assert (hold == [1, 1, 0, 0, 0, 0, 0, 0]).all() and plan["given"].tolist() == [[0]] * 5
    assert (plan["level"][:, :2] == 0).all() and np.allclose(plan["level"][:, 2], [1000, 800, 600, 400, 200])
    assert np.allclose(a**2 + b**2, 1) and np.allclose(by_guess**2 + by_eps**2, 1)
    assert np.array_equal(a[1:], by_guess[:-1]) and np.array_equal(b[1:], by_eps[:-1]), "a step ends where the next begins"
    assert (by_guess[-1] == 1).all() and (by_eps[-1] == 0).all() and (a[0, 2:] == 0).all()
    one = rows(FilmPlan(5, PAIR, told=True, one_level=True))
    assert (np.ptp(one["level"], 1) == 0).all() and np.array_equal(one["coefficients"], plan["coefficients"]) and one["given"].all()


def test_a_constant_vector_is_the_scalar_path_bit_for_bit(net: UNet):
    condition = torch.tensor([[3], [10], [0]])
    films = draw_films(net, FilmPlan(4, told=True), None, condition, 5)
    assert torch.equal(films.flatten(1, 2), sample(net, Sampling(4), condition, 5))
    untold = draw_films(net, FilmPlan(4), None, condition, 5)
    assert torch.equal(untold.flatten(1, 2), sample(net, Sampling(4), torch.full((3, 1), 10), 5))


@pytest.mark.parametrize("known", [(0,), PAIR, ENDS, (2, 5, 6)])
def test_known_frames_stay_bit_for_bit_and_are_used(net: UNet, known: tuple[int, ...]):
    given = torch.from_numpy(clips.clips("moving_small").test.pixels()[:3])
    condition = torch.full((3, 1), 10)
    films = draw_films(net, FilmPlan(3, known), given, condition, 5)
    rest = [f for f in range(F) if f not in known]
    assert torch.equal(films[:, known], given[:, known]) and films.isfinite().all()
    changed, elsewhere = given.clone(), given.clone()
    changed[:, known[0]] += 0.5
    elsewhere[:, rest] = 9
    assert (draw_films(net, FilmPlan(3, known), changed, condition, 5)[:, rest] - films[:, rest]).abs().max() > 1e-4
    assert torch.equal(draw_films(net, FilmPlan(3, known), elsewhere, condition, 5), films), "frames that are not known are not looked at"


def test_replacement_is_the_plain_loop_where_nothing_is_known(net: UNet):
    given, condition = torch.from_numpy(clips.clips("moving_small").test.pixels()[:3]), torch.full((3, 1), 10)
    assert torch.equal(replaced_films(net, 3, (), given, condition, 5), draw_films(net, FilmPlan(3), None, condition, 5))
    films = replaced_films(net, 3, PAIR, given, condition, 5)
    assert torch.equal(films[:, PAIR], given[:, PAIR])
    alone = replaced_films(net, 1, PAIR, given, condition, 5)  # at level 1000 a noised self is noise: one call knows nothing
    assert torch.equal(alone[:, 2:], draw_films(net, FilmPlan(1), None, condition, 5)[:, 2:])


def test_a_long_film_goes_on_from_its_last_frames(net: UNet):
    condition = torch.tensor([[1], [2]])
    opening, film = long_films(net, Loop(2, 3), condition, 2, 5)
    assert torch.equal(opening, draw_films(net, FilmPlan(2, told=True), None, condition, 5)) and film.shape == (2, 10, 1, 12, 12)
    part = draw_films(net, FilmPlan(2, (0, 1, 2), told=True), torch.cat([opening[:, -3:], opening[:, :5]], 1), condition, 5, (1, 0))
    assert torch.equal(part[:, :3], opening[:, -3:]) and torch.equal(part[:, 3:], film[:, :5])
    known, new = Turn(3)(part)
    assert torch.equal(known[:, :3], film[:, 2:5]) and torch.equal(new, film[:, :5])


@pytest.mark.parametrize("doubt", [0.0, 60.0])
def test_guidance_is_what_it_says(net: UNet, doubt: float):
    """Against the formula, written out: v of both, one after the other."""
    rng = torch.Generator().manual_seed(3)
    x, known, noise = (torch.randn(2, F, 1, 12, 12, generator=rng) for _ in range(3))
    condition, g = torch.tensor([[3], [4]]), torch.tensor([1.7])
    tables = {n: torch.from_numpy(t[1]) for n, t in rows(FilmPlan(3, (0, 1), told=True, guidance=1.7, doubt=doubt)).items()}
    level, coefficients = tables["level"], tables["coefficients"]
    assert level[:2].tolist() == [doubt, doubt] and torch.equal(tables["guidance"], g)
    (guided,) = GuidedStep(net)(x, known, noise, condition, g, level, coefficients)
    a, b, to_a, to_b = (float(c) for c in coefficients[:4, 7])
    seen, blind = x.clone(), x.clone()
    seen[:, :2] = noised(known, noise, torch.full((2, F), doubt))[:, :2]
    blind[:, :2] = a * known[:, :2] + b * noise[:, :2]
    assert doubt or torch.equal(seen[:, :2], known[:, :2]), "level 0 leaves what is known"
    with torch.no_grad():
        v_told = net(seen.flatten(1, 2), level.expand(2, F), condition).reshape(x.shape)
        v_blind = net(blind.flatten(1, 2), level[7].expand(2, F), torch.full((2, 1), 10)).reshape(x.shape)
    guess = (a * x - b * (v_blind + 1.7 * (v_told - v_blind))).clamp(-1, 1)
    expected = to_a * guess + to_b * (x - a * guess) / b
    assert (guided[:, 2:] - expected[:, 2:]).abs().max() < 1e-4 and torch.equal(guided[:, :2], known[:, :2])
    (one,) = GuidedStep(net)(x, known, noise, condition, torch.ones(1), level, coefficients)
    assert (guided - one).abs().max() > 1e-3
    if not doubt:
        (plain,) = FilmStep(net)(x, known, condition, torch.ones(1, dtype=torch.int64), level, coefficients)
        assert (one - plain).abs().max() < 1e-5, "a guidance of 1 is the plain step"


def test_a_guided_film_ends_with_a_frame_that_is_to_be_said():
    with pytest.raises(ValueError, match="ends with a frame that is not known"):
        FilmPlan(3, ENDS, guidance=2)
    assert not Loop(3, 2).opening.guided and Loop(3, 2, 4.0).opening.guided and not Loop(3, 2, 4.0).part.guided
    assert Loop(3, 2, doubt=40.0).part.guided and rows(Loop(3, 2, doubt=40.0).part)["level"].min() == 40


# ---- bars


def test_bars_know_what_they_must():
    rng = np.random.default_rng(0)
    start, step = (rng.integers(0, hi, (300, 1, 1, 4, 4)) for hi in (100, 15))
    films = (start + np.arange(F)[:, None, None, None] * step).astype(np.uint8)  # every pixel on a line of its own
    part = clips.Clips(films, np.zeros((300, 1), np.int64), "none", ("one",))
    real = part.pixels()[250:]
    train, validation = part.first(200), clips.Clips(films[200:250], part.conditions[200:250], "none", ("one",))
    blended = bars.error(bars.blended(real), real, ENDS)
    assert blended < 1e-12, "what moves evenly is blended exactly"
    found = bars.bars(train, validation, real, PAIR)
    copy = bars.error(bars.copied(real, 1), real, PAIR)
    assert found["linear map"] < 0.02 * copy < found["mean film"] < found["another clip"]
    assert np.isclose(copy, np.square((real[:, 2:] - real[:, 1:2]).astype(np.float64)).mean())
    assert bars.bars(part, validation, real, PAIR)["nearest training clip"] < 1e-12, "a clip is nearest to itself"
    assert np.isclose(bars.energy(real), np.abs(real[:, 1:] - real[:, :-1]).mean(), atol=1e-6)


# ---- a run


def test_a_run_holds_all_networks_side_by_side(run: Path):
    result = json.loads((run / "result.json").read_text())
    assert [r["role"] for r in result["rows"]] == ["model", "baseline", "baseline"] and result["deploy"] == "films" and result["test_samples"] == 40
    assert all(0 < r["score"] < 1 for r in result["rows"])
    for table in result["tables"]:
        assert table["rows"] and all(len(r) == len(table["columns"]) for r in table["rows"]), table["title"]
    shares = {(r[0], r[1]): r[3] for r in result["tables"][0]["rows"]}
    assert shares["copy of the last known frame", None] == 1 and 0.3 < shares["mean film", None] < 0.7
    long = next(t for t in result["tables"] if t["title"].startswith("Long films"))
    loop = open_checkpoint(run / "films").facts["loop"]
    assert [r[:2] for r in long["rows"]] == [["none", "none"], [f"{loop['history']:g}", "40"]]
    assert len(shares) == 3 * 3 + 5 and all(s > 0 for s in shares.values())
    for picture in result["pictures"]:
        assert size_of_png((run / picture["file"]).read_bytes())[0] > 400
    assert {p["title"] for p in result["pictures"]} >= {"Held-out clips", "Long films", "One level for all frames, 10 calls"}
    facts = open_checkpoint(run / "films").facts
    assert facts["stage"] == "vector" and facts["loop"]["steps"] == 3 and facts["score"] == pytest.approx(result["rows"][0]["score"], rel=0.5)


def test_what_is_trained_and_tested_is_kept(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    again = Path(shutil.copytree(run, tmp_path / "train"))

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was done again")

    monkeypatch.setattr("edgekit.models._stages.fit", never)
    monkeypatch.setattr("edgekit.models._fvdm.fit.outcome_of", never)
    registry.find(Family, "fvdm").fit(options(), again, silent)
    assert (again / "result.json").read_bytes() == (run / "result.json").read_bytes()


def test_of_two_ways_to_give_known_frames_the_better_on_validation_is_told(run: Path):
    found = json.loads((run / "scalar-0.test.json").read_text())["found"]
    net, validation = loaded(open_checkpoint(run / "scalar-0")), clips.clips("moving_small").validation
    real = validation.pixels()
    for calls in ("1", "4"):
        shares = {}
        for way in ("held", "replaced"):
            films = outcome.continued(net, way, int(calls), validation, PAIR, outcome.VALIDATION_SEED)
            shares[way] = ((films - real)[:, 2:] ** 2).mean() / ((real[:, 1:2] - real[:, 2:]) ** 2).mean()
        assert found["way"][calls] == min(shares, key=lambda w: shares[w])
        assert found["validation"][calls] == pytest.approx(min(shares.values()), rel=1e-4)


def test_guidance_is_chosen_by_what_changes_least():
    steady = {"apart": 0.1, **{f"{what} {end}": 2.0 for what in ("variance", "ink", "motion") for end in ("first", "last")}}
    assert outcome.worst_change(steady) == pytest.approx(0.1)
    assert outcome.worst_change({**steady, "ink last": 1.0}) == pytest.approx(0.5)
    assert outcome.worst_change({**steady, "motion last": 2.6}) == pytest.approx(0.3)


def test_a_network_that_was_only_compared_is_not_deployed(run: Path):
    with pytest.raises(EdgekitError, match=r"scalar-0 is 'scalar' of seed 0, one of the networks that were compared; give the folder films"):
        registry.find(Family, "fvdm").load(run / "scalar-0")


# ---- the bundle


@pytest.mark.parametrize("engine", ["onnxruntime", "cpp"])
def test_every_task_gives_the_films_of_torch(bundle: Bundle, engine: str):
    if reason := registry.load(Runtime, engine).ready():
        pytest.skip(f"not built: {reason}")
    found = examine.verify(bundle, engine, 20)
    assert found.passed and set(found.tasks) == {"image-to-video", "continuation", "interpolation", "long-video"}, found


def test_openvino_gives_them_too(bundle: Bundle, tmp_path: Path):
    part = registry.find(Exporter, "openvino")
    assert examine.verify(part.export(bundle, tmp_path / "openvino", part.options), "openvino", 0).passed


def test_tensorrt_rtx_builds_the_step(bundle: Bundle, tmp_path: Path):
    try:
        version("tensorrt-rtx")
    except PackageNotFoundError:
        pytest.skip("no tensorrt-rtx: pip install 'edgekit[tensorrt-rtx]'")
    made = flow.export(bundle.folder, "tensorrt-rtx", tmp_path / "rtx", chosen={"compute_capabilities": ["8.6"]})
    assert made.manifest.details["status"] == "built" and list(made.folder.glob("*.sm86.rtx.plan"))


def test_what_is_given_comes_back_bit_for_bit(bundle: Bundle):
    given = clips.clips("moving_small").test.pixels()[:5]
    for task, known in deploy.PLACED.items():
        with edgekit.open(bundle.folder, task=task) as session:
            film = session.run(**deploy.given_of(task, given))["film"]
        assert film.shape == given.shape and np.array_equal(film[:, known], given[:, list(known)]), task
        assert np.abs(film[:, 3] - given[:, 3]).max() > 0.01, "the others are its own"


def test_a_long_film_is_the_same_however_its_ticks_come(bundle: Bundle):
    condition, ticks = np.array([[3], [4]]), np.zeros(3, np.float32)
    view = bundle.of_task("long-video")
    with registry.find(Runtime, "onnxruntime").open(view) as session:
        whole = session.run({"condition": condition, "tick": ticks}, 9)
        session.begin({"condition": condition}, 9)
        pushed = [session.push({"tick": ticks[:n]})["film"] for n in (1, 2)]
        session.close()
    assert [p.shape[1] for p in pushed] == [5, 10] and np.array_equal(np.concatenate(pushed, 1), whole["film"])
    facts = open_checkpoint(bundle.folder.parent / "train" / "films").facts
    net = loaded(open_checkpoint(bundle.folder.parent / "train" / "films"))
    assert facts["loop"]["history"] in (1.2, 1.5) and facts["loop"]["guidance"] in (1.5, 3.0) and facts["loop"]["doubt"] == 40
    opening, film = long_films(net, Loop(**facts["loop"]), torch.from_numpy(condition), 3, 9)
    assert np.abs(whole["opening"] - opening.numpy()).max() < 1e-4 and np.abs(whole["film"] - film.numpy()).max() < 1e-3


def test_the_score_of_a_bundle_is_that_of_its_checkpoint(bundle: Bundle, run: Path):
    part, test = registry.find(Family, "fvdm"), clips.clips("moving_small").test
    with registry.find(Runtime, "onnxruntime").open(bundle) as session:
        score = part.score(bundle.manifest.model, session.run)
    assert score.value == pytest.approx(open_checkpoint(run / "films").facts["score"], rel=1e-3) and score.samples == 40
    real = part.score(bundle.manifest.model, lambda given: {"film": test.pixels()})
    grey = part.score(bundle.manifest.model, lambda given: {"film": 0 * test.pixels()})
    assert real.value == pytest.approx(1) and grey.value < 0.5


def test_calibrators_get_inputs_of_every_task_from_validation_clips(bundle: Bundle):
    part, validation = registry.find(Family, "fvdm"), clips.clips("moving_small").validation
    for name in bundle.task_names:
        view = bundle.of_task(name)
        found = part.samples(view.manifest.model, 20) if name == "generation" else part.task_samples(view.manifest.model, name, 20)
        view.manifest.signature.check_inputs(found)
    image = part.task_samples(bundle.manifest.model, "image-to-video", 20)["image"]
    assert {i.tobytes() for i in image} <= {f.tobytes() for f in validation.pixels()[:, 0]}


# ---- recipes


def test_every_recipe_in_the_examples_can_be_read():
    paths = sorted((ROOT / "examples").glob("fvdm_*.toml"))
    assert [p.stem for p in paths] == ["fvdm_emoji", "fvdm_moving_digits", "fvdm_radar", "fvdm_tiny"]
    for path in paths:
        found = recipe.read(path)
        recipe.fill(Options, {k: v for k, v in found.values.items() if k != "deploy"}, path.name)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seeds": [1, 1]}, "seeds are different"), ({"networks": ["scalar"]}, "networks are vector"), ({"overlap": 8}, "overlap is from 1 to 7"),
        ({"steps": 0}, "steps must be at least 1"), ({"history": [0.5]}, "history names guidances"),
        ({"guidance": []}, "guidance names guidances"), ({"doubt": [900]}, "doubt names levels"), ({"network": {"width": 12}}, "width is a multiple of 8"), ({"data": {"clips": 0}}, "clips of an epoch"),
        ({"networks": ["vector", "vector"]}, "each once"), ({"data": {"name": "digits"}}, "must be one of"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused_with_its_rule(change: dict, says: str):
    with pytest.raises(EdgekitError, match=says):
        options(**change)


def test_a_plan_that_cannot_be_is_refused():
    for arguments, says in (((0,), "at least 1 step"), ((3, (0, 8)), "known frames are"), ((3, (1, 1)), "known frames are")):
        with pytest.raises(ValueError, match=says):
            FilmPlan(*arguments)
