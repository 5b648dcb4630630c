"""The Multi-FIT family: tuples, groups, networks, rivals, figures; records and streams on real engines."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from edgekit import flow, recipe, registry, verify
from edgekit.bundle import Bundle
from edgekit.checkpoint import open_checkpoint
from edgekit.errors import Broken, EdgekitError
from edgekit.models import _multi_fit_data as data
from edgekit.models._multi_fit_data import Stays, generated, split_of, stays_of
from edgekit.models._multi_fit_deploy import last_read, on_own_grid
from edgekit.models._multi_fit_figures import auprc, auroc, difference, drawn_aurocs
from edgekit.models._multi_fit_fit import Fit, Inputs, Structure, build, structure_of
from edgekit.models._multi_fit_net import Affines, Group, GruD, MultiFit, attention, last_state
from edgekit.models._multi_fit_options import Data, Name, Network, Options
from edgekit.models._multi_fit_tuples import Scale, groups_of, gru_inputs, in_blocks, scale_of, sources_of, tuples_of
from edgekit.parts import Exporter, Family, Runtime
from edgekit.plan import Plan

PLAIN = Scale(*(np.full(4, v, np.float32) for v in (-100, 100, 0, 10)))
ANSWER = "log_probability"


def some_stays(count: int = 6, signals: int = 4, seed: int = 0) -> Stays:
    """Stays of a few readings by chance; the third has none at all."""
    rng = np.random.default_rng(seed)
    readings = rng.integers(3, 25, count)
    readings[2] = 0
    stay = np.repeat(np.arange(count), readings)
    minute = rng.integers(0, 300, len(stay))
    order = np.lexsort((minute, stay))
    signal = rng.integers(0, signals - 1, len(stay))  # the last signal is never read
    value = rng.normal(0, 20, len(stay))
    return stays_of(tuple("abcdef"[:signals]), stay, minute[order], signal, value, np.arange(count) % 2, 0)


# ---- stays


def test_of_several_readings_in_a_step_the_last_counts_and_a_step_has_the_time_of_its_last_reading() -> None:
    stay, minute, signal = np.array([0, 0, 0, 1]), np.array([3, 14, 15, 2]), np.array([0, 0, 1, 1])
    value = np.array([5.0, 6.0, 7.0, 8.0])
    merged = stays_of(("a", "b"), stay, minute, signal, value, np.array([0, 1]), 15)
    assert merged.offsets.tolist() == [0, 2, 3]
    assert merged.minutes.tolist() == [14, 15, 2]
    assert merged.values.tolist() == [[6, 0], [0, 7], [0, 8]]
    apart = stays_of(("a", "b"), stay, minute, signal, value, np.array([0, 1]), 0)
    assert apart.minutes.tolist() == [3, 14, 15, 2]


def test_the_packed_files_of_physionet_are_read_as_their_description_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "physionet2012"
    folder.mkdir()
    for part in "ab":
        np.savez(
            folder / f"set_{part}.npz", dt=np.array([7, 0, 30, 5], np.int16), var=np.array([1, 0, 1, 0], np.uint8),
            value=np.array([1, 2, 3, 4], np.float32), offsets=np.array([0, 3, 3, 4]), var_names=np.array(["HR", "pH"]),
            outcomes=np.array([[9, 0], [9, 1], [9, 1]], np.float32), outcome_names=np.array(["SAPS-I", "In-hospital_death"]),
        )  # fmt: skip
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    data._physionet.cache_clear()
    stays = data._physionet("b", 0)
    data._physionet.cache_clear()
    assert stays.signals == ("HR", "pH") and stays.deaths.tolist() == [0, 1, 1]
    assert stays.steps.tolist() == [2, 0, 1] and stays.minutes.tolist() == [7, 37, 5]
    assert stays.values.tolist() == [[2, 1], [0, 3], [4, 0]]
    (folder / "set_b.npz").write_bytes(b"no archive")
    with pytest.raises(Broken, match="packed set"):
        data._physionet("b", 0)


def test_training_validation_and_test_stays_are_different_ones_with_like_shares_of_deaths() -> None:
    split = split_of(Data())
    parts = (split.train, split.validation, split.test)
    seen = [{p.values[a:b].tobytes() for a, b in zip(p.offsets, p.offsets[1:], strict=False)} for p in parts]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert abs(split.train.deaths.mean() - split.validation.deaths.mean()) < 0.02
    assert len(split.train) + len(split.validation) == 400


def test_thinned_stays_lose_readings_and_the_steps_that_lost_all() -> None:
    whole = generated(50, 3)
    thin = whole.thinned(0.4, 0)
    assert abs(thin.observed.sum() / whole.observed.sum() - 0.6) < 0.02
    assert thin.observed.any(1).all() and len(thin) == 50
    kept = {(float(m), *v) for m, v in zip(whole.minutes, whole.values, strict=True)}
    one_signal = thin.observed.sum(1) == whole.observed.sum(1).max()
    assert all((float(m), *v) in kept for m, v in zip(thin.minutes[one_signal], thin.values[one_signal], strict=True))


def placed(stays: Stays) -> dict[tuple[int, float], tuple[np.ndarray, np.ndarray]]:
    """(stay, minute) of each step, in order -> what was read there."""
    stay = np.repeat(np.arange(len(stays)), stays.steps)
    rows = zip(stays.values, stays.observed, strict=True)
    return {(int(s), float(m)): (v, o) for s, m, (v, o) in zip(stay, stays.minutes, rows, strict=True)}


@pytest.mark.parametrize("thin", [0.3, 0.7])
def test_the_stays_of_an_epoch_each_lose_a_share_of_their_own_and_keep_order_times_and_values(thin: float) -> None:
    whole = generated(600, 3)
    drawn = whole.of_epoch(thin, 5, 2)
    before, after = placed(whole), placed(drawn)
    assert [p for p in before if p in after] == list(after)  # the steps that are left, in their order
    for place, (values, observed) in after.items():
        assert observed.any() and not (observed & ~before[place][1]).any()
        assert np.array_equal(values, np.where(observed, before[place][0], 0))
    readings, left = (np.add.reduceat(s.observed.sum(1), s.offsets[:-1]) for s in (whole, drawn))
    lost = 1 - left / readings
    # U(0, thin) has mean thin / 2 and variance thin^2 / 12; what is drawn reading by reading adds that of a binomial
    spread = np.sqrt(thin**2 / 12 + np.mean(1 / readings) * (thin / 2 - thin**2 / 3))
    assert abs(lost.mean() - thin / 2) < 4 * spread / np.sqrt(600)
    assert abs(lost.std() - spread) < 0.1 * spread
    assert lost.max() < thin + 4 * np.sqrt(thin * (1 - thin) / readings.min())


def test_an_epoch_of_a_seed_has_the_same_stays_every_time_and_no_thinning_is_the_identity() -> None:
    whole = generated(50, 3)
    assert whole.of_epoch(0.0, 1, 1) is whole
    first, again, *others = (whole.of_epoch(0.5, s, e) for s, e in ((1, 1), (1, 1), (1, 2), (2, 1)))
    assert all(np.array_equal(getattr(first, n), getattr(again, n)) for n in ("values", "observed", "minutes", "offsets"))
    assert all(not np.array_equal(first.minutes, o.minutes) for o in others)


def test_a_network_learns_from_the_stays_of_its_epoch_and_one_rival_from_whole_ones(tmp_path: Path) -> None:
    split = split_of(Data())
    options = Options(Plan(1, 32, 0.01), data=Data(thin=0.6))
    fit = Fit(options, tmp_path, lambda *_: None, split, None)

    def seen(name: Name, epoch: int) -> torch.Tensor:
        network = Network(name=name)
        task = fit._task(network, structure_of(split.train, fit.scale, network, 0))
        assert task.validation.steps.tolist() == split.validation.steps.tolist()
        return torch.cat([b[2] for b in task.batches("train", epoch, 7, 32)])

    steps = {(name, e): int(seen(name, e).sum()) for name in ("gru-mean", "gru-mean-whole") for e in (1, 2)}
    assert steps["gru-mean", 1] < 0.9 * steps["gru-mean-whole", 1] and steps["gru-mean", 1] != steps["gru-mean", 2]
    assert torch.equal(seen("gru-mean", 2), seen("gru-mean", 2))
    whole = Fit(dataclasses.replace(options, data=Data()), tmp_path, lambda *_: None, split, None)
    task = whole._task(Network(name="gru-mean"), structure_of(split.train, whole.scale, Network(name="gru-mean"), 0))
    unthinned = fit._task(Network(name="gru-mean-whole"), Structure((), ()))
    for a, b in zip(*(t.batches("train", 1, 7, 32) for t in (task, unthinned)), strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


# ---- what networks are fed


@pytest.mark.parametrize("causal", [True, False])
def test_tuples_equal_a_plain_loop(causal: bool) -> None:
    stays = some_stays()
    found = tuples_of(stays, PLAIN, causal)
    for low, high in zip(stays.offsets, stays.offsets[1:], strict=False):
        for i in range(4):
            readings = [(float(np.clip(stays.values[r, i] / 10, -5, 5)), float(stays.minutes[r])) for r in range(low, high) if stays.observed[r, i]]
            so_far: list[tuple[float, float]] = []
            for r in range(low, high):
                if stays.observed[r, i]:
                    so_far.append((float(np.clip(stays.values[r, i] / 10, -5, 5)), float(stays.minutes[r])))
                of = so_far if causal else readings
                mean = sum(v for v, _ in of) / len(of) if of else 0.0
                last, since = so_far[-1] if so_far else (mean, 0.0)
                expected = [last, mean, float(not stays.observed[r, i]), (float(stays.minutes[r]) - since) / 1440]
                assert np.allclose(found[r, i], expected, atol=1e-6)


def test_inputs_in_blocks_are_those_of_all_stays_together() -> None:
    stays = generated(80, 1)
    scale = scale_of(stays)
    assert np.array_equal(in_blocks(lambda s: tuples_of(s, scale, False), stays), tuples_of(stays, scale, False))
    assert np.array_equal(in_blocks(lambda s: gru_inputs(s, scale), stays), gru_inputs(stays, scale))


def test_gaps_of_the_grus_equal_the_recurrence_of_their_paper() -> None:
    stays = some_stays(seed=5)
    found = gru_inputs(stays, PLAIN)
    for low, high in zip(stays.offsets, stays.offsets[1:], strict=False):
        gap = np.zeros(4)
        for r in range(low, high):
            if r > low:  # Che et al. 2018: d_t = s_t - s_{t-1} + d_{t-1} where nothing was read at t-1
                gap = (stays.minutes[r] - stays.minutes[r - 1]) / 1440 + np.where(stays.observed[r - 1], 0, gap)
            assert np.allclose(found[r, :, 2], gap, atol=1e-6)
    assert np.array_equal(found[..., 1], stays.observed)
    assert np.allclose(found[..., 0], np.where(stays.observed, np.clip(stays.values / 10, -5, 5), 0))
    assert np.allclose(found[..., 3][stays.observed], found[..., 0][stays.observed])


def test_the_scale_looks_at_readings_alone_and_moves_implausible_ones_to_its_limits() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(80, 5, (10_000, 2)).astype(np.float32)
    values[:3, 0] = 735
    observed = np.ones((10_000, 2), bool)
    observed[:, 1] = False
    stays = Stays(("a", "b"), values, observed, np.zeros(10_000, np.float32), np.array([0, 10_000]), np.zeros(1, np.int64))
    scale = scale_of(stays)
    assert abs(scale.mean[0] - 80) < 0.3 and abs(scale.deviation[0] - 5) < 0.3 and scale.deviation[1] == 1
    assert scale(np.array([[735.0, 3.0]]))[0, 0] == scale(np.array([[scale.high[0], 3.0]]))[0, 0] < 3


def test_rate_groups_hold_every_signal_once_and_the_fast_ones_first() -> None:
    stays = generated(200, 1)
    groups = groups_of(stays, Network(rates=(0.4,)))
    assert groups == ((0, 1, 2, 3), (4, 5))  # read once an hour: in 1 - 1/e = 63 % of hours; once in four: in 22 %
    assert groups_of(stays, Network(name="fit")) == ((0, 1, 2, 3, 4, 5),)
    assert groups_of(stays, Network(rates=(0.9,))) == ((0, 1, 2, 3, 4, 5),)  # no signal is above: one group, not an empty one


def test_the_support_of_a_signal_are_the_others_of_its_group_that_go_with_it() -> None:
    rng = np.random.default_rng(0)
    tuples = rng.normal(size=(500, 4, 4)).astype(np.float32)
    tuples[:, 3, 0] = -tuples[:, 1, 0] + 0.01 * tuples[:, 0, 0]
    groups = ((0, 1, 2, 3),)
    near = sources_of(tuples, groups, Network(name="fit-v", support=1), 0)[0]
    assert near[1] == (1, 3) and near[3] == (3, 1)
    drawn = sources_of(tuples, groups, Network(name="fit-v", support=2, choose="random"), 0)[0]
    assert all(s[0] == i and len(set(s)) == 3 for i, s in enumerate(drawn))
    assert sources_of(tuples, groups, Network(name="fit"), 0)[0] == ((0,), (1,), (2,), (3,))
    assert len(sources_of(tuples, ((0, 1), (2, 3)), Network(support=5), 0)[0][0]) == 2  # no more than the group has


# ---- networks


def test_the_one_matrix_equals_an_affine_layer_for_each_signal_and_all_of_them_learn() -> None:
    sources = [(0, 2), (1, 0), (2, 1)]
    affines = Affines(sources, 5)
    x = torch.randn(2, 7, 3, 4)
    found = affines(x.flatten(2))
    for i, seen in enumerate(sources):
        layer = torch.cat([x[:, :, j] for j in seen], -1) @ affines.weight[i] + affines.bias[5 * i : 5 * i + 5]
        assert torch.allclose(found[..., 5 * i : 5 * i + 5], layer, atol=1e-6)
    net = MultiFit([sources, [(0,), (1,)]], 5, 6, causal=True, last=True, dropout=0.0)
    net(torch.randn(2, 7, 12), torch.tensor([7, 4]), torch.randn(2, 3, 8), torch.tensor([3, 1]))[:, 1].sum().backward()
    gradients = {n: p.grad for n, p in net.named_parameters()}
    assert all(g is not None for g in gradients.values())
    for g in range(2):  # the published code keeps these layers in a plain list, where they never learn
        weight = gradients[f"groups.{g}.affines.weight"]
        assert weight is not None and bool((weight.flatten(1).abs().sum(1) > 0).all())


@pytest.mark.parametrize("causal", [True, False])
def test_padding_changes_nothing(causal: bool) -> None:
    torch.manual_seed(0)
    group = Group([(0, 1), (1, 0)], 3, 4, causal, last=True)
    x = torch.randn(3, 9, 8)
    steps = torch.tensor([9, 4, 1])
    with torch.no_grad():
        together = group(x, steps)
        for i, n in enumerate(steps.tolist()):
            assert torch.allclose(together[i : i + 1], group(x[i : i + 1, :n], steps[i : i + 1]), atol=1e-6)


def test_the_mask_lies_inside_the_softmax() -> None:
    states, scores = torch.randn(2, 5, 3), torch.tensor([[1.0, 2.0, 90.0, 90.0, 90.0], [1.0, 2.0, 3.0, 4.0, 5.0]])
    real = torch.tensor([[True, True, False, False, False], [True] * 5])
    found = attention(states, scores, real)
    assert torch.allclose(found[0], torch.softmax(scores[0, :2], 0) @ states[0, :2], atol=1e-6)
    assert torch.allclose(found[1], torch.softmax(scores[1], 0) @ states[1], atol=1e-6)
    assert attention(states, scores, torch.zeros(2, 5, dtype=torch.bool)).abs().max() == 0


def test_a_group_without_data_is_worth_zeros() -> None:
    torch.manual_seed(0)
    two = MultiFit([[(0,), (1,)], [(0,)]], 3, 4, causal=True, last=False, dropout=0.0)
    one = MultiFit([[(0,), (1,)]], 3, 4, causal=True, last=False, dropout=0.0)
    one.groups[0].load_state_dict(two.groups[0].state_dict())
    x, steps = torch.randn(2, 6, 8), torch.tensor([6, 2])
    with torch.no_grad():
        one.head.weight.copy_(two.head.weight[:, :4])
        one.head.bias.copy_(two.head.bias)
        nothing = two(x, steps, torch.randn(2, 5, 4), torch.tensor([0, 0]))
        assert torch.allclose(nothing, one(x, steps), atol=1e-6)


def test_grud_decays_and_steps_as_a_loop_over_its_equations() -> None:
    torch.manual_seed(0)
    net = GruD(3, 5, 0.0).eval()
    inputs = torch.rand(2, 6, 3, 4)
    inputs[..., 1] = (inputs[..., 1] > 0.5).float()
    steps = torch.tensor([6, 3])
    cell = nn.GRUCell(6, 5)
    cell.load_state_dict({
        "weight_ih": net.gates.weight.detach(), "bias_ih": net.gates.bias.detach(),
        "weight_hh": net.recurrent.weight.detach(), "bias_hh": net.recurrent.bias.detach(),
    })  # fmt: skip
    with torch.no_grad():
        found = net(inputs, steps)
        for s, n in enumerate(steps.tolist()):
            h = torch.zeros(1, 5)
            for t in range(n):
                x, m, d, last = (inputs[s, t, :, j] for j in range(4))
                g = torch.tensor([np.exp(-max(0.0, float(net.decay[0, i] * d[i] + net.decay[1, i]))) for i in range(3)], dtype=torch.float32)
                filled = m * x + (1 - m) * (g * last + (1 - g) * 0)
                h = torch.exp(-torch.clamp(net.forget(d[None]), min=0)) * h
                h = cell(torch.cat([filled, m])[None], h)
            assert torch.allclose(found[s], torch.log_softmax(net.head(h), -1)[0], atol=1e-6)
    assert last_state(torch.ones(2, 4, 3), torch.tensor([0, 2])).sum(1).tolist() == [0, 3]


def test_the_recipe_names_what_it_refuses() -> None:
    with pytest.raises(EdgekitError, match="can be a rival"):
        recipe.fill(Options, {"plan": {"epochs": 1, "batch_size": 1, "learning_rate": 0.1}, "network": {"name": "gru-d"}}, "r")
    with pytest.raises(ValueError, match="rising shares"):
        Network(rates=(0.5, 0.2))
    with pytest.raises(ValueError, match=r"thin is a share from 0 \(off\) to below 1, found 1"):
        Data(thin=1)
    with pytest.raises(ValueError, match="each once"):
        Options(Plan(1, 1, 0.1), rivals=("multi-fit",))
    with pytest.raises(EdgekitError, match="too few to hold both outcomes"):
        split_of(Data(train_limit=3))


# ---- figures


def test_auroc_and_auprc_equal_those_of_sklearn_with_ties() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    for digits in (1, 8):
        deaths = rng.integers(0, 2, 300)
        risks = np.round(rng.random(300) + 0.3 * deaths, digits)
        assert np.isclose(auroc(deaths, risks), roc_auc_score(deaths, risks), atol=1e-12)
        assert np.isclose(auprc(deaths, risks), average_precision_score(deaths, risks), atol=1e-12)


def test_samples_with_replacement_are_scored_as_if_their_stays_were_written_out() -> None:
    rng = np.random.default_rng(0)
    deaths, risks = rng.integers(0, 2, 80), np.round(rng.random(80), 1)  # many ties
    counts = rng.multinomial(80, np.full(80, 1 / 80), 5)
    written = [auroc(np.repeat(deaths, c), np.repeat(risks, c)) for c in counts]
    assert np.allclose(drawn_aurocs(deaths, risks, counts), written, atol=1e-12)


def test_a_difference_is_paired_over_stays() -> None:
    rng = np.random.default_rng(0)
    deaths = rng.integers(0, 2, 200)
    risks = [rng.random(200) + 0.5 * deaths for _ in range(2)]
    same = difference(deaths, risks, risks)
    assert (same.mean, same.low, same.high) == (0, 0, 0)  # not paired, it would spread by 0.05
    far = difference(deaths, risks, [1 - r for r in risks])
    assert 0 < far.low < far.mean < far.high


# ---- forms


def test_a_running_maximum_by_doubling_finds_the_last_reading_of_long_records() -> None:
    read = torch.from_numpy((np.random.default_rng(0).random((1, 3000, 1)) < 0.001).astype(np.int64))
    rows = np.arange(1, 3001) * read.numpy()[0, :, 0]
    assert np.array_equal(last_read(read)[0, :, 0].numpy(), np.maximum.accumulate(rows))


def test_a_groups_own_grid_holds_its_steps_in_order() -> None:
    active = torch.tensor([[0, 1, 0, 1, 1], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
    rows, steps = on_own_grid(torch.arange(15.0).reshape(3, 5, 1), active)
    assert steps.tolist() == [3, 0, 5]
    assert rows[0, :3, 0].tolist() == [1, 3, 4] and rows[2, :, 0].tolist() == [10, 11, 12, 13, 14]


RECIPE = """
family = "multi_fit"
rivals = ["gru-mean", "gru-mean-whole", "fit-v"]
seeds = [0, 1]
[network]
width = 3
hidden = 8
rates = [0.4]
[data]
name = "generated"
test_limit = 60
thin = 0.4
[plan]
epochs = 3
batch_size = 64
learning_rate = 0.01
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with small networks."""
    folder = tmp_path_factory.mktemp("multi_fit")
    (folder / "small.toml").write_text(RECIPE)
    flow.train(folder / "small.toml", folder / "run")
    return folder / "run"


@pytest.fixture(scope="module")
def bundles(run: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Bundle]:
    """Both forms as ONNX and OpenVINO."""
    folder = tmp_path_factory.mktemp("bundles")
    found = {}
    for form in ("offline", "stream"):
        trained = flow.load_trained(run / "train" / form)
        onnx = registry.find(Exporter, "onnx")
        found[f"{form} onnx"] = onnx.export(trained, folder / f"{form}-onnx", onnx.options)
        found[f"{form} openvino"] = registry.find(Exporter, "openvino").export(found[f"{form} onnx"], folder / f"{form}-ov", {})
    return found


def test_a_run_compares_all_networks_and_keeps_the_best_by_validation_in_both_forms(run: Path) -> None:
    result = json.loads((run / "train" / "result.json").read_text())
    assert [r["role"] for r in result["rows"]] == ["model", *["baseline"] * 3] and result["test_samples"] == 60
    means = {row[0]: row for row in result["tables"][0]["rows"]}
    assert set(means) == {"Multi-FIT", "GRU, mean fill", "GRU, mean fill, thin = 0", "FIT-V"} and means["Multi-FIT"][2] > 0.6
    forms = [open_checkpoint(run / "train" / f) for f in ("offline", "stream")]
    assert all(torch.equal(v, forms[1].state()[n]) for n, v in forms[0].state().items())
    every = [open_checkpoint(run / "train" / f"multi-fit-{s}") for s in (0, 1)]
    best = max(every, key=lambda c: c.facts["validation_auroc"])
    assert forms[0].facts["seed"] == best.facts["seed"] and forms[0].facts["score"] == result["rows"][0]["score"]
    with pytest.raises(EdgekitError, match="offline or stream"):
        flow.load_trained(run / "train" / "gru-mean-0")


def test_what_is_trained_is_kept_and_gives_the_same_again(run: Path, tmp_path: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (run / "train").glob("*-?/checkpoint.json")}
    assert flow.train(run.parent / "small.toml", run) == run / "train" / "offline"
    assert {p: p.stat().st_mtime_ns for p in before} == before and len(before) == 8
    (tmp_path / "one.toml").write_text(RECIPE.replace('["gru-mean", "gru-mean-whole", "fit-v"]', "[]").replace("[0, 1]", "[1]"))
    flow.train(tmp_path / "one.toml", tmp_path / "run")  # whatever is trained beside it
    again, first = open_checkpoint(tmp_path / "run/train/multi-fit-1"), open_checkpoint(run / "train/multi-fit-1")
    assert all(torch.equal(v, again.state()[n]) for n, v in first.state().items())


@pytest.mark.parametrize("form", ["offline", "stream"])
@pytest.mark.parametrize(("fmt", "engine"), [("onnx", "onnxruntime"), ("openvino", "openvino"), ("onnx", "cpp")])
def test_both_forms_give_the_trained_networks_answers(bundles: dict[str, Bundle], form: str, fmt: str, engine: str) -> None:
    """A stream's golden answers are those of the trained network on every beginning of the record."""
    runtime = registry.load(Runtime, engine)
    if runtime.ready():
        pytest.skip(runtime.ready())
    found = verify.verify(bundles[f"{form} {fmt}"], runtime)
    assert found.passed, found.failures
    assert found.output_max_abs is not None and found.output_max_abs < 1e-5


@pytest.mark.parametrize("form", ["offline onnx", "stream onnx"])
def test_what_is_stored_where_nothing_was_read_changes_nothing(bundles: dict[str, Bundle], form: str) -> None:
    inputs = split_of(Data()).validation.first(8).padded()
    hidden = inputs["observed"] == 0
    other = {**inputs, "values": inputs["values"].copy()}
    other["values"][hidden] = np.random.default_rng(0).permutation(np.linspace(-1e6, 1e6, int(hidden.sum()))).astype(np.float32)
    with registry.find(Runtime, "onnxruntime").open(bundles[form]) as session:
        assert np.array_equal(session.run(inputs)[ANSWER], session.run(other)[ANSWER])


def test_records_of_any_length_are_answered_and_steps_without_readings_count_for_nothing(bundles: dict[str, Bundle], run: Path) -> None:
    stays = split_of(Data()).validation.take([3])
    with registry.find(Runtime, "onnxruntime").open(bundles["offline onnx"]) as session:
        short = session.run(stays.padded(10))[ANSWER]
        for steps in (11, 37, 100):
            padded = stays.padded(10)
            longer = {n: np.zeros((1, steps, *v.shape[2:]), v.dtype) for n, v in padded.items()}
            places = np.sort(np.random.default_rng(steps).permutation(steps)[:10])  # holes anywhere
            for name, value in padded.items():
                longer[name][:, places] = value
            assert np.allclose(session.run(longer)[ANSWER], short, atol=1e-6)
        nothing = session.run(split_of(Data()).validation.take([]).padded(4) | {
            "values": np.zeros((1, 4, 6), np.float32), "observed": np.zeros((1, 4, 6), np.uint8), "minutes": np.zeros((1, 4), np.float32)
        })[ANSWER]  # fmt: skip
    state = open_checkpoint(run / "train" / "offline").state()
    assert np.allclose(nothing, torch.log_softmax(state["head.bias"], -1).numpy(), atol=1e-6)


def test_the_bidirectional_network_with_whole_means_is_exported_for_records_alone(tmp_path: Path) -> None:
    text = RECIPE.replace("width = 3", "width = 3\ncausal = false").replace('["gru-mean", "gru-mean-whole", "fit-v"]', "[]").replace("[0, 1]", "[0]")
    (tmp_path / "both.toml").write_text(text.replace("epochs = 3", "epochs = 1"))
    trained = flow.load_trained(flow.train(tmp_path / "both.toml", tmp_path / "run"))
    assert not (tmp_path / "run/train/stream").exists()
    onnx = registry.find(Exporter, "onnx")
    bundle = onnx.export(trained, tmp_path / "onnx", onnx.options)
    found = verify.verify(bundle, registry.find(Runtime, "onnxruntime"))
    assert found.passed, found.failures
    family = registry.find(Family, "multi_fit")
    assert bundle.manifest.model is not None
    assert family.held_out(bundle.manifest.model, 5)["values"].shape[0] == 5


def test_inputs_of_a_network_leave_each_group_its_own_grid() -> None:
    stays = some_stays()
    structure = Structure(((0, 1), (2, 3)), (((0,), (1,)), ((0,), (1,))))
    _, _, fast, _, slow = Inputs(stays, PLAIN, Network(rates=(0.5,)), structure).batch(np.array([0, 2]))
    assert fast.tolist() == [int(stays.observed[: stays.offsets[1], :2].any(1).sum()), 0]
    assert slow.tolist() == [int(stays.observed[: stays.offsets[1], 2:].any(1).sum()), 0]


def test_the_structure_follows_from_training_stays_and_survives_json() -> None:
    split, network = split_of(Data()), Network(rates=(0.4,))
    found = structure_of(split.train, scale_of(split.train), network, 0)
    assert json.loads(json.dumps(found.to_json()))["groups"] == [[0, 1, 2, 3], [4, 5]]
    parameters = sum(p.numel() for p in build(dataclasses.replace(network, name="gru-d"), found, 6).parameters())
    assert parameters == 2 * 6 + (6 + 1) * 64 + 3 * 64 * (12 + 1) + 3 * 64 * (64 + 1) + 2 * 65


@pytest.mark.slow
def test_rounding_to_int8_costs_less_than_a_hundredth_of_auroc(run: Path, tmp_path: Path) -> None:
    for form in ("offline", "stream"):
        made = flow.deploy(run / "train" / form, tmp_path / form, ["onnx:int8"], score_limit=None, seconds=0.05, processes=1)
        scores = {b.manifest.precision: b.read_evidence("verify-onnxruntime") for b in made}
        assert all(s is not None and not s["failures"] for s in scores.values())
        assert scores["int8"]["score"] > scores["f32"]["score"] - 0.01  # type: ignore[index]
