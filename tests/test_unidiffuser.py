"""UniDiffuser: captions as codes, what is heard of them, levels of training, the seven tasks as programs, and a run on real engines."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from edgekit import examine, flow, recipe, registry
from edgekit.bundle import Bundle
from edgekit.checkpoint import open_checkpoint
from edgekit.cli import main
from edgekit.errors import EdgekitError
from edgekit.measurement import silent
from edgekit.models._diffusion import quality, yardstick
from edgekit.models._diffusion.data import Pictures, Split, pictures
from edgekit.models._diffusion.schedule import LEVELS, noise, signal
from edgekit.models._unidiffuser import judges
from edgekit.models._unidiffuser.captions import codes_of, colour_names, words_of
from edgekit.models._unidiffuser.deploy import OWN, TASKS, Deployed
from edgekit.models._unidiffuser.net import Net
from edgekit.models._unidiffuser.options import ALONE, Options, Shares
from edgekit.models._unidiffuser.plans import KINDS, MADE, Walk, rows
from edgekit.models._unidiffuser.sampler import walk
from edgekit.models._unidiffuser.step import Step
from edgekit.models._unidiffuser.training import BothTask, levels_of
from edgekit.parts import Exporter, Family, Runtime
from edgekit.picture_grid import size_of_png

QUICK = {"epochs": 3, "batch_size": 128, "learning_rate": 0.02, "optimizer": "muon", "schedule": "constant", "average": 0.9}
RECIPE = {
    "both": QUICK, "alone": {**QUICK, "epochs": 1}, "network": {"width": 8}, "steps": 3, "words_steps": 2, "guidances": [1.0, 2.0], "pictures": 40,
}  # fmt: skip
VALUES = (3, 2)  # words of the two places of a caption of the small networks below


def small_net(seed: int = 0) -> Net:
    """An untrained network whose answers are not zero."""
    torch.manual_seed(seed)
    net = Net(1, 8, VALUES, 8).eval()
    with torch.no_grad():
        for layer in (net.unet.last, net.say_last):
            layer.weight.normal_(0, 0.2)
    return net


def drawn_like(net: Net, count: int, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise as a picture and as codes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((count, net.channels, net.size, net.size), (count, *net.codes.shape[::2]))
    x, y = (torch.randn(s, generator=generator) for s in shapes)
    return x, y


# ---- captions


@pytest.mark.parametrize("sizes", [(10,), (2, 2, 6, 17)])
def test_codes_are_orthogonal_of_unit_variance_and_absent_words_have_none(sizes: tuple[int, ...]) -> None:
    codes = codes_of(sizes)
    for place, count in enumerate(sizes):
        assert np.array_equal(codes[place, :count] @ codes[place, :count].T, codes.shape[2] * np.eye(count))
        assert np.abs(codes[place, :count]).min() == 1 and not codes[place, count:].any()


def test_colours_take_the_nearest_name_that_is_free() -> None:
    first, second, third = colour_names(("#fe0000", "#ff0000", "#0000ff"))
    assert (second, third) == ("red", "blue") and first not in ("red", "blue")
    assert len(set(colour_names(("#010101", "#000000", "#020202")))) == 3


def test_every_attribute_of_the_avatars_has_words_of_its_own() -> None:
    part = Pictures(
        np.zeros((1, 3, 16, 16), np.float32), np.zeros((1, 4), np.int64), ("glasses", "long hair", "skin", "hair colour"),
        (("no", "yes"), ("no", "yes"), ("#ffdbac", "#8d5524"), ("#28150a", "#cab188")),
    )  # fmt: skip
    words = words_of(part)
    assert words[0] == ("no glasses", "glasses") and words[1] == ("short hair", "long hair") and all(w.endswith(" hair") for w in words[3])
    with pytest.raises(EdgekitError, match="different words, found glasses, no glasses more than once"):
        words_of(dataclasses.replace(part, heads=("glasses", "glasses", "skin", "hair colour")))
    with pytest.raises(EdgekitError, match="no words for 'group' with the values smileys; give digits, mnist or avatars"):
        words_of(Pictures(part.images, part.conditions[:, :1], ("group",), (("smileys",),)))


def test_codes_lead_back_to_their_words_and_not_given_has_no_code() -> None:
    net = small_net()
    every = torch.tensor([[i, j] for i in range(VALUES[0]) for j in range(VALUES[1])])
    assert torch.equal(net.decoded(net.encoded(every)), every)
    assert torch.equal(net.decoded(net.encoded(every) + 0.5 * drawn_like(net, len(every))[1]), every), "noise of half a code's size moves no word"
    assert not net.encoded(torch.tensor([VALUES])).any()


# ---- the network


def test_what_codes_say_of_words_is_what_bayes_says() -> None:
    """Against the densities of the noisy codes themselves, in float64."""
    net, level = small_net(), 700.0
    _, y = drawn_like(net, 6)
    a, b = (float(f(np.float64(level))) for f in (signal, noise))
    at = torch.full((6, 2), level)
    found = net.own(y, signal(at), noise(at)).softmax(2).detach().numpy()
    for place, count in enumerate(VALUES):
        codes = net.codes[place, :count].double().numpy()
        log = -np.square(y[:, place, None].double().numpy() - a * codes).sum(2) / (2 * b * b)
        wanted = np.exp(log - log.max(1, keepdims=True))
        assert found[:, place, :count] == pytest.approx(wanted / wanted.sum(1, keepdims=True), abs=1e-5)
        assert not found[:, place, count:].any()


def test_at_level_1000_the_other_one_is_nothing_to_the_last_bit() -> None:
    net = small_net()
    (x, y), (other_x, other_y) = drawn_like(net, 4), drawn_like(net, 4, 2)
    some, top, tops = torch.full((4, 1), 400.0), torch.full((4, 1), float(LEVELS)), torch.full((4, 2), float(LEVELS))
    with torch.no_grad():
        assert torch.equal(net(x, y, some, tops)[0], net(x, other_y, some, tops)[0])
        assert not torch.equal(net(x, y, some, some.expand(-1, 2))[0], net(x, other_y, some, some.expand(-1, 2))[0])
        assert torch.equal(net(x, y, top, some.expand(-1, 2))[1], net(other_x, y, top, some.expand(-1, 2))[1])
        assert not torch.equal(net(x, y, some, tops)[1], net(other_x, y, some, tops)[1])


def test_a_word_that_is_not_given_is_as_good_as_unknown() -> None:
    net = small_net()
    x, y = drawn_like(net, 2)
    clean = net.encoded(torch.tensor([[1, VALUES[1]], [2, VALUES[1]]]))
    unknown = torch.stack([clean[:, 0], y[:, 1]], 1)
    level = torch.full((2, 1), 300.0)
    with torch.no_grad():
        one = net(x, clean, level, torch.zeros(2, 2))
        other = net(x, unknown, level, torch.tensor([[0.0, LEVELS]] * 2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


# ---- training


@pytest.mark.parametrize("places", [1, 3])
def test_levels_show_each_task_as_often_as_its_share_says(places: int) -> None:
    shares = Shares(0.2, 0.3, 0.1, 0.1, 0.2, 0.1)
    drawn = [levels_of(50, places, shares, np.random.default_rng(s)) for s in range(40)]
    level, words = (np.concatenate(v) for v in zip(*drawn, strict=True))
    assert level.shape == (2000, 1) and words.shape == (2000, places) and level.dtype == words.dtype == np.float32
    assert min(level.min(), words.min()) >= 0 and max(level.max(), words.max()) <= LEVELS
    given, unknown = (words == 0).all(1), (words == LEVELS).all(1)
    assert (level == 0).mean() == pytest.approx(0.1, abs=0.01) and (level == LEVELS).mean() == pytest.approx(0.1, abs=0.01)
    assert (level == words).all(1).mean() == pytest.approx(0.2, abs=0.01)
    if places == 1:
        assert given.mean() == pytest.approx(0.2, abs=0.01) and unknown.mean() == pytest.approx(0.3, abs=0.01)
    some = ((words == 0).any(1) & (words == LEVELS).any(1)).mean()
    assert (some == 0) if places == 1 else 0.02 < some < 0.1
    free = level[~np.isin(level, (0, LEVELS))]
    assert np.histogram(free, 4, (0, LEVELS))[0] / len(free) == pytest.approx(0.25, abs=0.03)


def task_of(net: Net, shares: Shares, weight: float = 0.5) -> BothTask:
    """The task on a few pictures with two words each."""
    rng = np.random.default_rng(0)
    part = Pictures(
        rng.random((20, 1, 8, 8), np.float32), np.stack([rng.integers(0, n, 20) for n in VALUES], 1), ("a", "b"), (("u", "v", "w"), ("r", "s"))
    )
    return BothTask(Split("small", part, part, part), net, shares, weight)


def test_nothing_is_learned_of_what_is_given() -> None:
    """No gradient reaches the picture's last layer where pictures are given, nor that of the words where words are."""
    for shares, idle, busy in ((Shares(0, 0, 1, 0, 0, 0), "unet.last", "say_last"), (Shares(1, 0, 0, 0, 0, 0), "say_last", "unet.last")):
        net = small_net()
        task = task_of(net, shares)
        images, words, level, levels, *noises = next(task.batches("train", 1, 0, 20))
        levels = torch.zeros_like(levels) if shares.words_given else levels  # of several words some may not be given
        task.loss(net, (images, words, level, levels, *noises)).backward()
        grads = dict(net.named_parameters())
        assert not grads[f"{idle}.weight"].grad.any() and grads[f"{busy}.weight"].grad.any()


def test_the_network_of_pictures_alone_learns_no_words() -> None:
    net = small_net()
    task = task_of(net, ALONE, 0.0)
    task.loss(net, next(task.batches("train", 1, 0, 20))).backward()
    assert not net.say_last.weight.grad.any() and not net.heard_first.weight.grad.any() and net.unet.last.weight.grad.any()


def test_the_validation_batches_are_the_same_in_every_epoch() -> None:
    task = task_of(small_net(), Shares())
    for first, again in zip(task.batches("validation", 1, 0, 8), task.batches("validation", 5, 3, 8), strict=True):
        assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"steps": 0}, "steps and words_steps are 1 or more"),
        ({"guidances": (2.0,)}, "guidances are different numbers from 0 on with 1"),
        ({"seeds": (1, 1)}, "seeds are different whole numbers"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(change: dict[str, object], told: str) -> None:
    good = recipe.fill(Options, RECIPE, "unidiffuser")
    with pytest.raises(ValueError, match=told):
        dataclasses.replace(good, **change)
    with pytest.raises(ValueError, match=r"sum to 1, found \[0.5, 0.65, 0.05, 0.02, 0.1, 0.08\], whose sum is 1.4"):
        Shares(words_given=0.5)


# ---- walks


@pytest.mark.parametrize("kind", KINDS)
def test_rows_walk_down_the_schedule_and_keep_what_is_given(kind: str) -> None:
    table = rows(Walk(kind, 5, 2.0))
    for i, made in enumerate(MADE[kind]):
        a, b, by_guess, by_now = table["coefficients"][:, i].T
        level = table["level"][:, i]
        if not made:
            assert (by_guess == 0).all() and (by_now == 1).all() and len(set(level.tolist())) == 1 and (table["guidance"][:, i] == 1).all()
            continue
        assert level == pytest.approx([1000, 800, 600, 400, 200]) and (table["guidance"][:, i] == 2).all()
        # A guess that is right: eps stays, and x is noised by the next level.
        x0, eps = np.random.default_rng(0).standard_normal((2, 5))
        then = np.append(level[1:], 0)
        assert by_guess * x0 + by_now * (a * x0 + b * eps) == pytest.approx(signal(then) * x0 + noise(then) * eps, abs=1e-5)
        assert (by_guess[-1], by_now[-1]) == (1, 0)


def test_a_step_keeps_what_is_given_to_the_last_bit_and_guides_what_is_made() -> None:
    net = small_net()
    x, y = drawn_like(net, 3)
    given = {kind: [torch.from_numpy(t[1]) for t in rows(Walk(kind, 4, 3.0)).values()] for kind in KINDS}
    with torch.no_grad():
        assert torch.equal(Step(net)(x, y, *given["text-to-image"])[1], y)
        assert torch.equal(Step(net)(x, y, *given["image-to-text"])[0], x)
        for which, kind in ((0, "text-to-image"), (1, "image-to-text")):
            level, coefficients, guidance = given[kind]
            coefficients = coefficients.clone()
            coefficients[which, 2:] = torch.tensor([1e-3, 0.0])  # the guess alone, far from the clamp's edges below
            zero, one, three = (Step(net)(x, y, level, coefficients, torch.full((2,), g))[which] for g in (0.0, 1.0, 3.0))
            inner = (torch.stack([zero, one, three]).abs() < 0.99e-3).all(0)
            assert inner.any() and (three - (zero + 3 * (one - zero)))[inner].abs().max() < 1e-8


def test_guidance_zero_forgets_the_words_and_one_is_no_guidance() -> None:
    net, words = small_net(), torch.tensor([[0, 1], [2, 0], [1, 1]])
    y = net.encoded(words)
    forgot, _ = walk(net, Walk("text-to-image", 3, 0.0), 3, 5, y=y)
    image, _ = walk(net, Walk("image", 3), 3, 5)
    plain, _ = walk(net, Walk("text-to-image", 3), 3, 5, y=y)
    whole, _ = walk(net, Walk("text-to-image", 3), 3, 5, y=y, whole=True)
    assert (forgot - image).abs().max() < 1e-5 and (plain - whole).abs().max() < 1e-5 and (plain - image).abs().max() > 1e-3


def test_captions_of_nothing_are_as_frequent_as_the_network_says() -> None:
    """A network that says every word of a place alike makes all of them alike often."""
    torch.manual_seed(0)
    net = Net(1, 8, VALUES, 8).eval()  # its last layer begins as zeros
    _, codes = walk(net, Walk("text", 10), 3000, 3)
    words = net.decoded(codes).numpy()
    for place, count in enumerate(VALUES):
        shares = np.bincount(words[:, place], minlength=count) / len(words)
        assert shares == pytest.approx(1 / count, abs=4 * np.sqrt(1 / count / len(words)))
    assert (codes.abs() - 1).abs().max() < 1e-3, "every caption has come to a code"


# ---- a run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A run of RECIPE; its judges are trained for three epochs, in a folder of their own."""
    folder, patch = tmp_path_factory.mktemp("unidiffuser"), pytest.MonkeyPatch()
    patch.setattr(quality, "EPOCHS", {"digits": 3})
    patch.setattr(yardstick, "folder", lambda name: folder / "features" / name)
    patch.setattr(judges, "folder", lambda name: folder / "features" / name)
    for module in (yardstick, judges):
        module.cached.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    part = registry.find(Family, "unidiffuser")
    part.fit(recipe.fill(part.options(), RECIPE, "unidiffuser"), folder / "run" / "train", silent)
    yield folder / "run"
    torch.set_num_threads(threads)
    for module in (yardstick, judges):
        module.cached.cache_clear()
    patch.undo()


@pytest.fixture(scope="module")
def bundle(run: Path) -> Bundle:
    exporter = registry.find(Exporter, "onnx")
    return exporter.export(registry.find(Family, "unidiffuser").load(run / "train" / "both"), run / "bundle", exporter.options)


def test_a_run_names_what_is_deployed_and_shows_its_pictures(run: Path) -> None:
    result = json.loads((run / "train" / "result.json").read_text())
    assert (result["score_name"], result["test_samples"], result["deploy"]) == ("text to image, judged right", 355, "both")
    assert [r["role"] for r in result["rows"]].count("model") == 1 and result["rows"][0]["role"] == "model"
    for table in result["tables"]:
        assert table["rows"] and all(len(r) == len(table["columns"]) for r in table["rows"]), table["title"]
    for picture in result["pictures"]:
        assert size_of_png((run / "train" / picture["file"]).read_bytes())[0] > 400
    facts = open_checkpoint(run / "train" / "both").facts
    assert {w["kind"] for w in facts["walks"]} == set(KINDS)
    by = {g: json.loads((run / "train" / f"both-0.guided{g}.json").read_text())["found"]["validation"] for g in (1, 2)}
    for kind, figure in (("text-to-image", "image"), ("image-to-text", "text"), ("joint", "pair")):
        (used,) = {w["guidance"] for w in facts["walks"] if w["kind"] == kind}
        assert used == (1 if by[1][figure] >= by[2][figure] - 0.01 else 2), "chosen on validation pictures, the lower one where both are as good"


def test_what_is_trained_and_tested_is_kept(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = Path(shutil.copytree(run / "train", tmp_path / "run" / "train"))
    before = (copy / "result.json").read_bytes()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was trained or tested again")

    monkeypatch.setattr("edgekit.models._stages.fit", never)
    monkeypatch.setattr("edgekit.models._unidiffuser.fitting.Fit._found", never)
    part = registry.find(Family, "unidiffuser")
    part.fit(recipe.fill(part.options(), RECIPE, "unidiffuser"), copy, silent)
    assert (copy / "result.json").read_bytes() == before


@pytest.mark.parametrize("engine", ["onnxruntime", "cpp"])
def test_every_task_gives_what_torch_gives(bundle: Bundle, engine: str) -> None:
    if reason := registry.load(Runtime, engine).ready():
        pytest.skip(f"not built: {reason}")
    assert set(bundle.task_names) == set(TASKS) and bundle.task_names[0] == OWN
    found = examine.verify(bundle, engine, 60)
    assert found.passed, found
    assert {n: bundle.of_task(n).goldens()[1].inputs for n in TASKS}, "a second size of the batch"


def test_openvino_gives_it_too(bundle: Bundle, tmp_path: Path) -> None:
    exporter = registry.find(Exporter, "openvino")
    assert examine.verify(exporter.export(bundle, tmp_path / "ov", exporter.options), "openvino", 0).passed


def test_tensorrt_rtx_builds_all_graphs(bundle: Bundle, tmp_path: Path) -> None:
    try:
        version("tensorrt-rtx")
    except PackageNotFoundError:
        pytest.skip("no tensorrt-rtx: pip install 'edgekit[tensorrt-rtx]'")
    made = flow.export(bundle.folder, "tensorrt-rtx", tmp_path / "rtx", chosen={"compute_capabilities": ["8.6"]})
    assert made.manifest.details["status"] == "built" and len(list(made.folder.glob("*.sm86.rtx.plan"))) == 3


def test_tasks_agree_with_each_other_on_an_engine(bundle: Bundle) -> None:
    """All words 'not given' is the image of nothing; the pieces of a variation are the tasks of its two walks."""
    def answer(task: str, **given: np.ndarray) -> dict[str, np.ndarray]:
        with registry.find(Runtime, "onnxruntime").open(bundle.of_task(task)) as session:
            return session.run(given, 11)

    test = pictures("digits").test
    nothing, three = answer(OWN, words=np.full((3, 1), 10))["image"], answer("image", wanted=np.zeros((3, 1), np.int64))["image"]
    assert np.abs(nothing - three).max() < 1e-5
    told, varied = answer("image-to-text", image=test.images[:6])["words"], answer("image-variation", image=test.images[:6])
    assert np.array_equal(told, varied["words"]) and not np.array_equal(varied["varied"], answer(OWN, words=told)["image"]), "its noise is other noise"
    drawn, back = answer(OWN, words=test.conditions[:6])["image"], answer("text-variation", words=test.conditions[:6])
    assert np.array_equal(drawn, back["image"]) and back["varied"].shape == (6, 1)
    with pytest.raises(EdgekitError, match="names categories: 0 to 9 in place 0|names categories: 0 to 10 in place 0"):
        answer(OWN, words=np.full((1, 1), 11))


def test_the_command_line_takes_and_tells_words(bundle: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*words: object) -> dict[str, Any]:
        monkeypatch.setattr(sys, "argv", ["edgekit", "run", str(bundle.folder), *map(str, words), "--json"])
        assert main() == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    run("--text", "seven", "--text", "", "--output", tmp_path / "drawn.png", "--seed", 3)
    assert size_of_png((tmp_path / "drawn.png").read_bytes()) == (2 * 66 + 2, 68)
    pairs = run("--task", "joint", "--text", "pair", "--text", "pair", "--text", "pair")
    assert np.shape(pairs["image"]["values"]) == (3, 1, 8, 8) and set(pairs["words"]["words"]) <= set(words_of(pictures("digits").train)[0])
    Image.fromarray(np.uint8(pictures("digits").test.images[0, 0] * 127.5 + 127.5)).save(tmp_path / "some.png")
    told = run("--task", "image-variation", "--image", tmp_path / "some.png", "--output", f"varied={tmp_path / 'other.png'}")
    assert told["words"] == run("--task", "image-to-text", "--image", tmp_path / "some.png")["words"] and (tmp_path / "other.png").exists()


def test_the_score_of_a_bundle_is_that_of_its_checkpoint(bundle: Bundle, run: Path) -> None:
    part, test = registry.find(Family, "unidiffuser"), pictures("digits").test
    with registry.find(Runtime, "onnxruntime").open(bundle) as session:
        score = part.score(bundle.manifest.model, session.run)
    assert score.value == pytest.approx(open_checkpoint(run / "train" / "both").facts["score"], abs=0.01) and score.samples == 355
    real = part.score(bundle.manifest.model, lambda given: {"image": test.images})
    grey = part.score(bundle.manifest.model, lambda given: {"image": 0 * test.images})
    assert real.value > 0.8 > 0.2 > grey.value


def test_inputs_of_every_task_fit_it_and_are_none_of_the_test_data(bundle: Bundle) -> None:
    part, split = registry.find(Family, "unidiffuser"), pictures("digits")
    for name in TASKS:
        given = part.task_samples(bundle.manifest.model, name, 20)
        bundle.of_task(name).manifest.signature.check_inputs(given)
        assert all(len(v) == 20 for v in given.values())
    image = part.task_samples(bundle.manifest.model, "image-to-text", 20)["image"]
    assert not (image[:, None] == split.test.images).all((2, 3, 4)).any()


def test_a_network_that_was_only_compared_is_not_deployed(run: Path) -> None:
    with pytest.raises(EdgekitError, match=r"alone-0 is 'alone' of seed 0, one of the networks that were compared; give the folder 'both'"):
        registry.find(Family, "unidiffuser").load(run / "train" / "alone-0")


def test_programs_of_captions_of_several_words_run_in_torch() -> None:
    """Eight places as of the avatars: shapes and names fit, and what is given comes back."""
    deployed = Deployed(small_net(), (("u", "v", "w"), ("r", "s")), {k: Walk(k, 2) for k in KINDS})
    for name in TASKS:
        asked = deployed.task(name).signature.inputs[0]
        given = {"image": drawn_like(deployed.net, 2)[0].numpy(), "words": np.array([[0, 1], [2, 2]]), "wanted": np.zeros((2, 1), np.int64)}[asked.name]
        found = deployed.answer(name, {asked.name: given})
        for t in deployed.task(name).signature.outputs:
            t.check(found[t.name])
