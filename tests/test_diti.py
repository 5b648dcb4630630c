"""DiTi as a family: what a mask shows, what learns and what does not, codes and probes, the deployed encoder and its counterfactuals."""

from __future__ import annotations

import copy
import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekit import examine, recipe, registry
from edgekit.bundle import Bundle
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import EdgekitError
from edgekit.measurement import silent
from edgekit.models._diffusion.data import Pictures, pictures
from edgekit.models._diffusion.net import UNet
from edgekit.models._diffusion.schedule import LEVELS, added, clean, noised, velocity
from edgekit.models._diti import groups, probe
from edgekit.models._diti.counterfactual import Swapper, numbers_of, pairs_of, swaps_of
from edgekit.models._diti.deploy import DOWN, UP, Encode, Move, drawn, tables
from edgekit.models._diti.net import Coded, Coder, Even, told_nothing
from edgekit.models._diti.stages import Deployed, base_of, coder_of
from edgekit.models._diti.training import CodeLearner, CodeTask, ReconstructionTask, rebuilt, unlabelled
from edgekit.parts import Calibrator, Exporter, Family, Runtime
from edgekit.picture_grid import size_of_png

ROOT = Path(__file__).parent.parent
WIDTHS = (2, 2, 14, 14)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two processes with two threads each train ten times slower on two cores
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Iterator[Path]:
    """A run of the tiny recipe."""
    from edgekit.models._diffusion import yardstick

    folder = tmp_path_factory.mktemp("diti")
    patch = pytest.MonkeyPatch()
    patch.setattr(yardstick, "folder", lambda name: folder / "judge" / name)
    part, (options, _) = registry.find(Family, "diti"), tiny()
    part.fit(options, folder / "tiny" / "train", silent)
    yield folder / "tiny" / "train"
    patch.undo()


@pytest.fixture(scope="module")
def bundle(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    exporter = registry.find(Exporter, "onnx")
    return exporter.export(registry.find(Family, "diti").load(run / "encoder"), tmp_path_factory.mktemp("bundle") / "b", exporter.options)


def tiny():
    found = recipe.read(ROOT / "examples" / "diti_tiny.toml")
    values = {k: v for k, v in found.values.items() if k != "deploy"}
    return recipe.fill(registry.find(Family, "diti").options(), values, "diti_tiny.toml"), values


def live(coder: Coder) -> Coder:
    """With a last layer that is not zero, and norms that have seen something."""
    with torch.no_grad():
        for p in (coder.shift.last.weight, coder.shift.last.bias):
            p.normal_(0, 0.3)
    coder.train()
    coder.encoder(torch.randn(64, coder.encoder.channels, coder.encoder.size, coder.encoder.size))
    return coder.eval()


def a_net(size: int = 8, channels: int = 1, widths: tuple[int, ...] = (1, 2, 3)) -> Deployed:
    torch.manual_seed(3)
    base = UNet(channels, size, (1,), width=8)
    with torch.no_grad():
        base.last.weight.normal_(0, 0.3)
    return Deployed(base, live(Coder(channels, size, widths, 8, 8))).eval()


# ---- what is seen at a level


def test_the_mask_grows_by_one_group_from_fine_to_coarse() -> None:
    table, own = groups.seen(WIDTHS), groups.added(WIDTHS)
    assert table.sum(1).tolist() == [2, 4, 18, 32], "an expanding set"
    assert (own.sum(0) == 1).all() and own.sum(1).tolist() == list(WIDTHS), "each number belongs to one group"
    assert np.array_equal(table, np.cumsum(own, 0)), "what is seen at g is the sum of what groups 0..g add"
    assert (table[-1] == 1).all(), "at the noisiest levels all of the code is seen"


def test_boundaries_are_the_papers_times_at_the_same_hiding_of_a_smaller_picture() -> None:
    """The paper's abar by its own product, and the ratio of signal to noise of means over 4x4 pixels, which is 4 times a pixel's."""
    betas = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
    for size, share in ((64, 1), (16, 4), (8, 8)):
        bounds = groups.boundaries(4, size)
        for time, level in zip((250, 500, 750), bounds, strict=False):
            kept = math.prod(1 - b for b in betas[:time])
            angle = level / LEVELS * math.pi / 2
            assert math.cos(angle) / math.sin(angle) == pytest.approx(share * math.sqrt(kept / (1 - kept)), rel=1e-9)
        assert bounds[-1] == LEVELS and (np.diff(bounds) > 0).all()
    assert groups.boundaries(4, 16)[1] == pytest.approx(450.7, abs=0.05), "the paper's time 500"


def test_a_level_adds_the_group_whose_levels_it_lies_in() -> None:
    bounds = np.array([100.0, 400.0, 1000.0])
    levels = np.array([0, 50, 100, 100.1, 400, 999, 1000, 1000.0001])
    assert groups.group_of(levels, bounds).tolist() == [0, 0, 0, 1, 1, 2, 2, 2]
    rows = tables((1, 2, 3), 16, 10)
    inside = groups.boundaries(3, 16)
    for way in (UP, DOWN):
        for level, visible in zip(rows[f"{way}-level"][:, 0], rows[f"{way}-visible"], strict=True):
            group = sum(float(level) > b for b in inside[:-1])  # by counting the boundaries below
            assert np.array_equal(visible, groups.seen((1, 2, 3))[group])
    assert rows[f"{UP}-level"][0] == 100, "at level 0 no network is asked"
    assert rows[f"{DOWN}-level"][0] == 1000


def test_the_turns_of_a_way_lead_from_picture_to_noise_and_back() -> None:
    """With the true v of a picture and its noise, every step lands on the picture at the next level exactly: DDIM in two products."""
    rows = tables((1, 1), 8, 7)
    x0, eps = torch.randn(2, 1, 8, 8, dtype=torch.float64), torch.randn(2, 1, 8, 8, dtype=torch.float64)
    grid = torch.linspace(0, LEVELS, 8, dtype=torch.float64)
    for way, at, to in ((UP, grid[:-1], grid[1:]), (DOWN, grid.flip(0)[:-1], grid.flip(0)[1:])):
        for turn, here, there in zip(rows[f"{way}-turn"].astype(np.float64), at, to, strict=True):
            x, v = (f(x0, eps, here.expand(2, 1)) for f in (noised, velocity))
            torch.testing.assert_close(turn[0] * x + turn[1] * v, noised(x0, eps, there.expand(2, 1)), atol=1e-6, rtol=0)


# ---- what learns


def test_only_a_levels_own_group_learns_by_the_stop_rule() -> None:
    split, net = pictures("digits"), a_net(widths=(1, 2, 3))
    images = torch.from_numpy(split.train.images[:6])
    own = groups.owner((1, 2, 3))
    seen = {}
    for rule in ("stop", "base"):
        task = CodeTask(split, net.base, (1, 2, 3), rule, masked=True)
        for group, level in enumerate(np.diff([0.0, *task.bounds]) / 2 + np.array([0.0, *task.bounds[:-1]])):
            learner = CodeLearner(copy.deepcopy(net.coder)).train()
            batch = (images, torch.full((6, 1), float(level)), torch.randn(6, 1, 8, 8), torch.full((6,), group))
            task.loss(learner, batch).backward()
            gradient = learner.net.encoder.last.weight.grad.abs().sum(1).numpy()
            seen[rule, group] = set(own[gradient > 1e-9].tolist())
    assert seen == {**{("stop", g): {g} for g in range(3)}, **{("base", g): set(range(g + 1)) for g in range(3)}}


def test_without_a_mask_every_number_learns_at_every_level() -> None:
    split, net = pictures("digits"), a_net()
    task = CodeTask(split, net.base, (1, 2, 3), "base", masked=False)
    learner = CodeLearner(copy.deepcopy(net.coder)).train()
    images = torch.from_numpy(split.train.images[:6])
    task.loss(learner, (images, torch.full((6, 1), 10.0), torch.randn(6, 1, 8, 8), torch.zeros(6, dtype=torch.int64))).backward()
    assert (learner.net.encoder.last.weight.grad.abs().sum(1) > 1e-9).all()


def test_at_the_noisiest_level_the_mask_hides_nothing() -> None:
    """The masked loss is the one without a mask there, and at the lowest levels it is not."""
    split, net = pictures("digits"), a_net()
    images, eps = torch.from_numpy(split.train.images[:8]), torch.randn(8, 1, 8, 8)
    learner = CodeLearner(net.coder).eval()
    same = []
    for level, group in ((float(LEVELS), 2), (20.0, 0)):
        batch = (images, torch.full((8, 1), level), eps, torch.full((8,), group))
        with torch.no_grad():
            losses = [float(CodeTask(split, net.base, (1, 2, 3), "base", masked=m).loss(learner, batch)) for m in (True, False)]
        same.append(losses[0] == losses[1])
    assert same == [True, False]


def test_the_loss_of_both_rules_is_their_mean() -> None:
    split, net = pictures("digits"), a_net()
    batch = next(iter(CodeTask(split, net.base, (1, 2, 3), "base", masked=True).batches("train", 1, 0, 16)))
    learner = CodeLearner(net.coder).eval()
    losses, gradients = {}, {}
    for rule in ("base", "stop", "dual"):
        learner.zero_grad()
        loss = CodeTask(split, net.base, (1, 2, 3), rule, masked=True).loss(learner, batch)
        loss.backward()
        losses[rule], gradients[rule] = float(loss.detach()), learner.net.encoder.straight.weight.grad.clone()
    assert losses["base"] == pytest.approx(losses["stop"], rel=1e-6), "what is not learned through is still seen"
    assert losses["dual"] == pytest.approx(losses["base"], rel=1e-6)
    torch.testing.assert_close(gradients["dual"], (gradients["base"] + gradients["stop"]) / 2)
    assert not torch.allclose(gradients["base"], gradients["stop"], rtol=0.01)


def test_before_it_learns_the_shift_is_nothing() -> None:
    """The masked decoder of a new network is the base itself, whatever code it is given."""
    net = a_net()
    fresh = Coder(1, 8, (1, 2, 3), 8, 8).eval()
    x, levels = torch.randn(4, 1, 8, 8), torch.rand(4, 1) * LEVELS
    assert torch.equal(Coded(net.base, fresh.shift)(x, levels, torch.randn(4, 6)), told_nothing(net.base, x, levels))


def test_the_autoencoder_decodes_from_its_code_alone() -> None:
    net = a_net()
    images = torch.randn(3, 1, 8, 8)
    made = rebuilt(CodeLearner(net.coder), images)
    assert torch.equal(made, -net.coder.shift(torch.zeros(3, 1, 8, 8), torch.zeros(3, 1, 8, 8), torch.full((3, 1), 1000.0), net.coder.encoder(images)))
    task = ReconstructionTask(pictures("digits"))
    batch = next(task.batches("train", 1, 0, 32))
    assert float(task.loss(CodeLearner(Coder(1, 8, (1, 2), 8, 8).eval()), batch).detach()) == pytest.approx(float((batch[0] ** 2).mean())), "at first all black"


def test_no_label_reaches_the_base_or_a_code() -> None:
    split = pictures("digits")
    bare = unlabelled(split)
    assert bare.train.sizes == (1,) and not bare.train.conditions.any()
    scrambled = Pictures(split.train.images, split.train.conditions[::-1], split.train.heads, split.train.values)
    assert unlabelled(type(split)(split.name, scrambled, split.validation, split.test)).sha256 == bare.sha256
    assert np.array_equal(bare.train.images, split.train.images)


# ---- codes and probes


def test_the_exported_encoder_has_its_norms_folded_in() -> None:
    for size, channels in ((8, 1), (16, 3)):
        net = a_net(size, channels)
        x = torch.randn(9, channels, size, size)
        with torch.no_grad():
            torch.testing.assert_close(Encode(net.coder.encoder).eval()(x), net.coder.encoder(x), atol=2e-5, rtol=1e-5)


def test_the_numbers_of_a_group_have_one_deviation_together() -> None:
    """Their proportions stay, their mean power is 1; while it learns by the batch, afterwards by what it has seen."""
    norm, x = Even((3, 1)), torch.randn(4000, 4) * torch.tensor([3.0, 1.0, 0.1, 7.0]) + torch.tensor([5.0, -1.0, 0.0, 2.0])
    made = norm.train()(x)
    torch.testing.assert_close(made.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    for group in (made[:, :3], made[:, 3:]):
        assert float(group.square().mean()) == pytest.approx(1, abs=1e-4)
    torch.testing.assert_close(made.std(0)[:3] / made.std(0)[1], x.std(0)[:3] / x.std(0)[1])
    for _ in range(200):
        norm(x)
    torch.testing.assert_close(norm.eval()(x), made, atol=1e-4, rtol=1e-4)


def test_noise_is_on_the_code_only_while_it_learns() -> None:
    net, x = a_net(), torch.randn(5, 1, 8, 8)
    every, levels = torch.ones(5, 6), torch.full((5, 1), 700.0)
    with torch.no_grad():
        noisy, quiet = CodeLearner(net.coder, noise=0.5), CodeLearner(net.coder)
        assert torch.equal(noisy.eval()(x, x, x, levels, every, every), quiet.eval()(x, x, x, levels, every, every))
        assert not torch.equal(noisy.train()(x, x, x, levels, every, every), quiet.train()(x, x, x, levels, every, every))


def test_the_exported_step_says_what_the_trained_networks_say() -> None:
    net = a_net()
    move = Move(net.base, net.coder).eval()
    x, code, swap, level = torch.randn(3, 1, 8, 8), torch.randn(3, 6), torch.zeros(3, 3), torch.tensor([700.0])
    for turn, expected in ((torch.tensor([0.0, 1.0]), Coded(net.base, net.coder.shift)(x, level.expand(3, 1), code)), (torch.tensor([1.0, 0.0]), x)):
        with torch.no_grad():
            torch.testing.assert_close(move(x, code, 0 * code, swap, torch.ones(6), level, turn), expected.detach(), atol=1e-5, rtol=0)


def test_a_probe_says_what_scikit_learn_says_of_standardised_codes() -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rng = np.random.default_rng(0)
    codes = (rng.standard_normal((300, 5)) * [1, 10, 0.1, 1, 1] + [0, 3, -2, 0, 0]).astype(np.float32)
    three = (codes[:, 0] > 0).astype(np.int64) + (codes[:, 1] > 3)
    two = (codes[:, 2] > -2).astype(np.int64)
    never = np.zeros(300, np.int64)
    labelled = Pictures(np.zeros((300, 1, 8, 8), np.float32), np.stack([three, two, never], 1), ("a", "b", "c"), (("0", "1", "2"), ("0", "1"), ("0", "1")))
    rows = np.arange(100)
    found = probe.fitted(codes, labelled, rows, 1.0)
    scaled = StandardScaler().fit_transform(codes)
    for head in (0, 1):
        oracle = LogisticRegression(C=1.0, max_iter=1000).fit(scaled[rows], labelled.conditions[rows, head])
        assert ((codes @ found.weights[head] + found.biases[head]).argmax(1) == oracle.predict(scaled)).mean() > 0.995
    assert found.right(codes, labelled.conditions)[2] == 1, "a value that was never another is always answered"
    again = probe.Probe.from_json(json.loads(json.dumps(found.to_json())))
    assert np.abs(again.right(codes, labelled.conditions) - found.right(codes, labelled.conditions)).max() <= 1 / 300


def test_principal_components_are_those_of_scikit_learn() -> None:
    from sklearn.decomposition import PCA

    split = pictures("digits")
    found, oracle = probe.principal(split, 10), PCA(10).fit(split.train.images.reshape(len(split.train), -1).astype(np.float64))
    expected = oracle.transform(split.test.images.reshape(len(split.test), -1).astype(np.float64))
    np.testing.assert_allclose(np.abs(found.test), np.abs(expected), atol=1e-6)


def test_labels_are_drawn_alike_for_every_code() -> None:
    first, again = probe.draws(1000, 200, 3), probe.draws(1000, 50, 3)
    assert all(np.array_equal(a[:50], b) for a, b in zip(first, again, strict=True)), "fewer labels are some of the more"
    assert len({a.tobytes() for a in first}) == 3 and all(len(set(a)) == 200 for a in first)


def test_a_code_that_is_the_label_is_told_right_and_one_of_noise_is_not() -> None:
    split = pictures("digits")
    hot = probe.Codes(*(np.eye(10)[p.conditions[:, 0]] for p in (split.train, split.validation, split.test)))
    rng = np.random.default_rng(0)
    noise = probe.Codes(*(rng.standard_normal((len(p), 10)) for p in (split.train, split.validation, split.test)))
    assert probe.probed(hot, split, [200], 2)[0].test == 1
    assert probe.probed(noise, split, [200], 2)[0].test < 0.2


# ---- swaps


def test_swaps_name_every_group_once_and_their_halves() -> None:
    swaps = swaps_of(WIDTHS)
    assert {n: numbers_of(WIDTHS, s) for n, s in swaps.items()} == {
        "none": 0, "group 0": 2, "group 1": 2, "group 2": 14, "group 3": 14, "fine": 4, "coarse": 28, "all": 32,
    }  # fmt: skip
    assert np.array_equal(swaps["fine"] + swaps["coarse"], swaps["all"])


def test_pairs_differ_in_what_they_show() -> None:
    part = pictures("digits").test
    first, second = pairs_of(part, 50)
    assert (part.conditions[first] != part.conditions[second]).all() and np.array_equal(pairs_of(part, 50)[0], first)


def test_with_all_groups_swapped_the_other_pictures_code_draws() -> None:
    net = a_net()
    swapper, x, y = Swapper(net, 5), torch.randn(4, 1, 8, 8), torch.randn(4, 1, 8, 8)
    made = swapper(x.numpy(), y.numpy(), {"all": np.ones(3, np.float32), "none": np.zeros(3, np.float32)})
    with torch.no_grad():
        code, other = swapper.encode(x), swapper.encode(y)
        blank, noise = torch.zeros(4, 3), torch.randn(4, 1, 8, 8)
        torch.testing.assert_close(drawn(swapper.move, noise, code, other, blank + 1, swapper.rows), drawn(swapper.move, noise, other, code, blank, swapper.rows), atol=1e-5, rtol=0)
    same = swapper(x.numpy(), x.numpy(), {"all": np.ones(3, np.float32)})["all"]
    np.testing.assert_allclose(same, made["none"], atol=1e-5, err_msg="a picture's own groups change nothing")
    assert np.abs(made["all"] - made["none"]).max() > 1e-2


def test_a_group_acts_only_at_levels_where_it_is_seen() -> None:
    """The coarsest group is hidden below its levels: there a step with it swapped is the step without, bit for bit."""
    net = a_net()
    move, rows = Move(net.base, net.coder).eval(), tables((1, 2, 3), 8, 12)
    x, code, other = torch.randn(2, 1, 8, 8), torch.randn(2, 6), torch.randn(2, 6)
    last = torch.tensor([[0.0, 0, 1]]).expand(2, -1)
    first_visible = groups.boundaries(3, 8)[1]
    acts = []
    for level, visible, turn in zip(*(torch.from_numpy(rows[f"{DOWN}-{n}"]) for n in ("level", "visible", "turn")), strict=True):
        with torch.no_grad():
            acts.append((float(level) > first_visible, not torch.equal(move(x, code, other, last, visible, level, turn), move(x, code, other, 0 * last, visible, level, turn))))
    assert all(seen == acted for seen, acted in acts) and {seen for seen, _ in acts} == {True, False}


def test_the_inverted_noise_leads_back_to_the_picture_with_many_steps() -> None:
    """Up and down are two first-order ways along one curve: the round trip's error falls with the number of steps."""
    net, x = a_net(), np.random.default_rng(0).standard_normal((3, 1, 8, 8)).astype(np.float32)
    errors = [float(np.abs(Swapper(net, n)(x, x, {"none": np.zeros(3, np.float32)})["none"] - x).mean()) for n in (5, 20, 80)]
    assert errors[0] > errors[1] > errors[2]


# ---- a run


def test_a_run_names_what_is_deployed_and_says_how_the_codes_compare(run: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    assert result["deploy"] == "encoder" and result["test_samples"] == 355
    assert [r["role"] for r in result["rows"]].count("model") == 1 and result["rows"][0]["label"].startswith("diti")
    titles = {t["title"]: t for t in result["tables"]}
    for table in titles.values():
        assert table["rows"] and all(len(r) == len(table["columns"]) for r in table["rows"]), table["title"]
    probes = {r[0]: r for r in titles["Linear probes of 16 numbers a picture"]["rows"]}
    assert len(probes) == 6 and all(0.1 < v < 1 for r in probes.values() for v in (r[1], r[3])), "better than chance, and not all of it"
    assert size_of_png((run / "swaps.png").read_bytes())[0] > 100
    assert {p.name for p in run.iterdir() if (p / "checkpoint.json").exists()} == {"base-0", "diti-0", "pdae-0", "autoencoder-0", "encoder"}


def test_the_base_is_the_same_before_and_after_a_code_was_trained_on_it(run: Path) -> None:
    base, whole = open_checkpoint(run / "base-0").state(), open_checkpoint(run / "encoder").state()
    assert all(torch.equal(v, whole[f"base.{n}"]) for n, v in base.items())
    coder = open_checkpoint(run / "diti-0").state()
    assert all(torch.equal(v, whole[f"coder.{n}"]) for n, v in coder.items()) and len(whole) == len(base) + len(coder)
    net, split = base_of(open_checkpoint(run / "base-0")), pictures("digits")
    before = copy.deepcopy(net.state_dict())
    task, learner = CodeTask(split, net, (1, 1, 7, 7), "stop", masked=True), CodeLearner(coder_of(open_checkpoint(run / "diti-0"))).train()
    task.loss(learner, next(task.batches("train", 1, 0, 64))).backward()
    assert all(torch.equal(v, before[n]) for n, v in net.state_dict().items()) and all(p.grad is None for p in net.parameters())


def test_the_base_has_learned_to_take_noise_away(run: Path) -> None:
    net, part = base_of(open_checkpoint(run / "base-0")), pictures("digits").test
    x0 = torch.from_numpy(part.images)
    levels, eps = torch.full((len(part), 1), 400.0), torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    x = noised(x0, eps, levels)
    with torch.no_grad():
        v = told_nothing(net, x, levels)
    assert float((clean(x, v, levels) - x0).square().mean()) < 0.5 * float((x - x0).square().mean())
    torch.testing.assert_close(noised(clean(x, v, levels), added(x, v, levels), levels), x, atol=1e-5, rtol=0)


def test_what_is_trained_and_tested_is_kept(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    again = Path(shutil.copytree(run, tmp_path / "tiny" / "train"))
    before = (again / "result.json").read_bytes()

    def never(*_: object, **__: object) -> None:
        raise AssertionError("it was made again")

    for name in ("edgekit.models._stages.fit", "edgekit.models._diti.fit.probed", "edgekit.models._diti.fit.judged", "edgekit.models._diti.fit.known"):
        monkeypatch.setattr(name, never)
    registry.find(Family, "diti").fit(tiny()[0], again, silent)
    assert (again / "result.json").read_bytes() == before


def test_a_stage_is_not_deployed(run: Path) -> None:
    with pytest.raises(EdgekitError, match="pdae-0 is 'pdae' of seed 0, one of the networks that were compared; give the folder encoder"):
        registry.find(Family, "diti").load(run / "pdae-0")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"network": {"groups": [4]}}, "at least 2 groups"), ({"network": {"encoder": 12}}, "encoder is a multiple of 8"), ({"network": {"rule": "all"}}, "must be one of"), ({"network": {"noise": 1.0}}, "noise lies from 0"),
        ({"probes": {"labels": [200, 50]}}, "rising numbers"), ({"swaps": {"steps": 1}}, "2 steps"), ({"seeds": []}, "seeds are different"),
    ],
)  # fmt: skip
def test_a_recipe_that_cannot_be_is_refused_with_its_rule(change: dict, says: str) -> None:
    with pytest.raises(EdgekitError, match=says):
        recipe.fill(registry.find(Family, "diti").options(), {**tiny()[1], **change}, "mine.toml")


def test_more_labels_than_pictures_are_refused(tmp_path: Path) -> None:
    part, (_, values) = registry.find(Family, "diti"), tiny()
    options = recipe.fill(part.options(), {**values, "probes": {"labels": [50, 5000]}}, "mine.toml")
    with pytest.raises(EdgekitError, match="probes of 5000 labels were asked for, digits has 10.. training pictures; ask for fewer"):
        part.fit(options, tmp_path, silent)


def test_every_recipe_in_the_examples_can_be_read() -> None:
    paths = sorted((ROOT / "examples").glob("diti_*.toml"))
    assert {p.stem for p in paths} == {"diti_tiny", "diti_digits", "diti_mnist", "diti_avatars"}
    for path in paths:
        found = recipe.read(path)
        recipe.fill(registry.find(Family, "diti").options(), {k: v for k, v in found.values.items() if k != "deploy"}, path.name)


# ---- on a device


@pytest.mark.parametrize("engine", ["onnxruntime", "cpp"])
@pytest.mark.parametrize("task", ["encode", "counterfactual"])
def test_both_tasks_answer_as_the_trained_network(bundle: Bundle, engine: str, task: str) -> None:
    if reason := registry.load(Runtime, engine).ready():
        pytest.skip(f"not built: {reason}")
    assert bundle.task_names == ("encode", "counterfactual")
    found = examine.verify(bundle.of_task(task), engine, 60 if task == "encode" else 0)
    assert found.passed, found


def test_openvino_answers_alike(bundle: Bundle, tmp_path: Path) -> None:
    exporter = registry.find(Exporter, "openvino")
    made = exporter.export(bundle, tmp_path / "ov", exporter.options)
    assert all(examine.verify(made.of_task(task), "openvino", 0).passed for task in made.task_names)


def test_rounded_to_int8_the_code_keeps_what_the_probe_reads(bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgekit.quantise.SAMPLES", 60)
    calibrator = registry.find(Calibrator, "minmax")
    made = calibrator.calibrate(bundle, tmp_path / "int8", calibrator.options)
    found = made.manifest.details["quantisation"]
    assert found["good"] and found["same_answers"] is None and not found["float_nodes"], "numbers of a code are no scores, and all layers are rounded"
    assert found["sqnr_db"] == min(found["sqnr_db"], found["graphs"]["step"]["sqnr_db"]) >= 20, "the step, which encoding never runs, is judged as well"
    encode, swapped = (examine.verify(made.of_task(task), "onnxruntime", 355 if task == "encode" else 0) for task in made.task_names)
    assert encode.passed and swapped.passed
    assert encode.output_max_abs > 1e-4 and encode.score > bundle.manifest.model.score - 0.02


def test_the_score_of_a_bundle_is_that_of_its_checkpoint(bundle: Bundle, run: Path) -> None:
    part = registry.find(Family, "diti")
    with registry.find(Runtime, "onnxruntime").open(bundle) as session:
        score = part.score(bundle.manifest.model, session.run)
    assert score.value == pytest.approx(open_checkpoint(run / "encoder").facts["score"], abs=0.006) and score.samples == 355
    nothing = part.score(bundle.manifest.model, lambda given: {"code": np.zeros((len(given["image"]), 16), np.float32)})
    assert nothing.value < 0.2 < score.value


def test_samples_are_validation_pictures_and_never_those_of_the_test(bundle: Bundle) -> None:
    part, split = registry.find(Family, "diti"), pictures("digits")
    known = {i.tobytes() for i in split.validation.images}
    asked = part.task_samples(bundle.manifest.model, "counterfactual", 20)
    assert {len(v) for v in asked.values()} == {20} and asked["swap"].shape == (20, 4)
    for images in (part.samples(bundle.manifest.model, 30)["image"], asked["source"], asked["other"]):
        assert all(i.tobytes() in known for i in images)
    with pytest.raises(EdgekitError, match="counterfactual"):
        part.task_samples(bundle.manifest.model, "counterfactuals", 20)
