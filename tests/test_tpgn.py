"""The TPGN family: its layer against loops and against torch's convolutions, its data, its two forms on every engine."""

from __future__ import annotations

import datetime
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from edgekit import examine, flow, recipe, registry
from edgekit.bundle import Bundle
from edgekit.errors import Broken, EdgekitError
from edgekit.measurement import silent
from edgekit.models._tpgn_baselines import DLinear, Lstm, NLinear, products, repeat_last_day
from edgekit.models._tpgn_data import Data, generated, load_series, parts_of, read_csv, time_features
from edgekit.models._tpgn_net import Tpgn, frozen, window_statistics
from edgekit.models._tpgn_options import Network, Options, options_of
from edgekit.models._tpgn_rolling import Rolling
from edgekit.parts import Family, Runtime

ROOT = Path(__file__).parent.parent
RECIPES = sorted((ROOT / "examples").glob("tpgn_*.toml"))
SMALL = Network(history=24, horizon=12, period=6, width=3)


def network(n: Network = SMALL, variables: int = 1, features: int = 4) -> Tpgn:
    torch.manual_seed(1)
    return Tpgn(n, features, 5 + torch.rand(variables), 1 + torch.rand(variables)).requires_grad_(False)


def windows(n: Network, variables: int = 1, count: int = 3, features: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(2)
    return 5 + 2 * torch.randn(count, n.history, variables, generator=draw), torch.rand(count, n.history, features, generator=draw) - 0.5


# --- the network ---------------------------------------------------------------------------------------------------


def in_loops(net: Tpgn, x: np.ndarray, time: np.ndarray) -> np.ndarray:
    """One window (L, V), (L, F), by the published description, in float64, hour by hour: nothing is shared with the module."""
    n, w = net.network, {k: v.numpy().astype(np.float64) for k, v in net.named_parameters()}
    rows, out = n.history // n.period, np.zeros((n.horizon, x.shape[1]))
    for v in range(x.shape[1]):
        z = (x[:, v] - float(net.mean[v])) / float(net.std[v])
        m, s = (z.mean(), np.sqrt(z.var() + 1e-5)) if n.norm else (0.0, 1.0)
        item = [[np.concatenate([[(z[r * n.period + c] - m) / s], time[r * n.period + c]]) for c in range(n.period)] for r in range(rows)]
        short = w["column_bias"][v].copy()
        for r in range(rows):
            row = np.concatenate([item[r][c] for c in range(n.period)]) @ w["row"][v] + w["row_bias"][v]
            short += row @ w["column"][v][r * n.width : (r + 1) * n.width]
        for c in range(n.period):
            long = w["long_bias"][v].copy()
            for r in range(rows):
                hidden = w["hidden_bias"][v].copy()
                for slot in range(rows - 1):
                    seen = r - (rows - 1) + slot
                    if seen >= 0:
                        hidden += item[seen][c] @ w["hidden"][v][slot]
                g, t = np.split(np.concatenate([item[r][c], hidden]) @ w["gate"][v] + w["gate_bias"][v], 2)
                g = 1 / (1 + np.exp(-g))
                long += (g * hidden + (1 - g) * np.tanh(t)) @ w["long"][v][r * n.width : (r + 1) * n.width]
            ahead = np.concatenate([short, long]) @ w["head"][v] + w["head_bias"][v]
            for r in range(n.horizon // n.period):
                out[r * n.period + c, v] = (ahead[r] * s + m) * float(net.std[v]) + float(net.mean[v])
    return out


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("variables", [1, 3])
@pytest.mark.parametrize("n", [SMALL, Network(30, 20, 10, 2), Network(8, 4, 4, 1), Network(8, 8, 1, 2)], ids=str)
def test_forecasts_are_those_of_loops_over_hours(n: Network, variables: int, norm: bool):
    n = Network(n.history, n.horizon, n.period, n.width, norm)
    net, (x, time) = network(n, variables), windows(n, variables)
    for one, stamp, forecast in zip(x.numpy(), time.numpy(), net(x, time).numpy(), strict=True):
        np.testing.assert_allclose(forecast, in_loops(net, one, stamp), atol=2e-5)


def test_looking_back_is_the_published_convolution_over_padded_rows():
    net, n = network(), SMALL
    columns = torch.rand(1, 7, n.rows, 5)
    padded = F.pad(columns[0].transpose(1, 2), (n.rows - 1, 0))[:, :, :-1]  # R - 1 rows of zeros in front, the last row away
    theirs = F.conv1d(padded, net.hidden[0].permute(2, 1, 0), net.hidden_bias[0]).transpose(1, 2)
    ours = (columns.reshape(7, -1) @ net.look_back()[0]).reshape(7, n.rows, n.width) + net.hidden_bias[0]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)
    torch.testing.assert_close(ours[:, 0], net.hidden_bias[0].expand(7, -1), atol=0, rtol=0)  # H_0 = b: nothing lies before


@pytest.mark.parametrize("row", range(4))
def test_a_row_is_seen_by_later_rows_only_and_by_itself_not_through_the_history(row: int):
    net, n = network(), SMALL
    columns = torch.rand(1, 2, n.rows, 5)
    changed = columns.clone()
    changed[:, :, row] += 1
    hidden = [(c.reshape(1, 2, -1) @ net.look_back()).reshape(2, n.rows, n.width) for c in (columns, changed)]
    same = (hidden[0] == hidden[1]).all(-1).all(0)
    assert same.tolist() == [r <= row for r in range(n.rows)]
    out = [net.gated(c)[0] for c in (columns, changed)]
    assert (out[0][:, :row] == out[1][:, :row]).all() and (out[0][:, row:] != out[1][:, row:]).any(-1).all()


def test_with_norm_a_shifted_and_stretched_window_gives_the_forecast_shifted_and_stretched():
    net, (x, time) = network(), windows(SMALL)
    torch.testing.assert_close(net(x + 3, time), net(x, time) + 3, atol=1e-4, rtol=0)
    torch.testing.assert_close(net(5 * x, time), 5 * net(x, time), atol=1e-3, rtol=0)  # but for the 1e-5 under the root
    plain = network(Network(24, 12, 6, 3, norm=False))
    assert (plain(x + 3, time) - plain(x, time) - 3).abs().max() > 0.1


def test_the_deviation_is_the_population_s_with_1e_5_under_the_root():
    z = torch.tensor([[[1.0], [3.0]]])
    assert [float(s) for s in window_statistics(z)] == [2.0, pytest.approx(np.sqrt(1 + 1e-5), rel=1e-7)]
    assert float(window_statistics(z * 0)[1]) == pytest.approx(np.sqrt(1e-5), rel=1e-6)


def test_variables_do_not_see_each_other():
    net, (x, time) = network(variables=3), windows(SMALL, 3)
    changed = x.clone()
    changed[..., 1] += torch.rand(SMALL.history)
    same = (net(x, time) == net(changed, time)).all(0).all(0)
    assert same.tolist() == [True, False, True]


def test_there_are_as_many_weights_as_in_the_published_measurements():
    def count(horizon: int, width: int) -> int:
        return sum(p.numel() for p in network(Network(168, horizon, 24, width)).parameters())

    assert [count(168, 2), count(720, 2), count(168, 8), count(720, 8)] == [431, 546, 2471, 2862]


def test_a_frozen_network_answers_the_same_and_does_not_follow_the_trained_one():
    net, (x, time) = network(), windows(SMALL)
    fixed = frozen(net)
    before = net(x, time)
    assert torch.equal(fixed(x, time), before)
    net.hidden += 1
    assert torch.equal(fixed(x, time), before) and not torch.equal(net(x, time), before)


def test_gradients_reach_every_weight():
    net, (x, time) = network().requires_grad_(True), windows(SMALL)
    net(x, time).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())


# --- hour by hour --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("variables", [1, 2])
def test_the_rolling_form_says_what_the_window_says_at_every_hour(norm: bool, variables: int):
    n = Network(24, 12, 6, 3, norm)
    net = network(n, variables)
    draw = torch.Generator().manual_seed(3)
    x, time = 5 + torch.randn(2, 200, variables, generator=draw).cumsum(1), torch.rand(2, 200, 4, generator=draw) - 0.5
    long = torch.cat([net.mean.expand(2, n.history - 1, variables), x], 1), torch.cat([torch.zeros(2, n.history - 1, 4), time], 1)
    rolling = Rolling(net)
    states = [torch.zeros([2 if s == "batch" else int(s) for s in shape]) for shape in rolling.states().values()]
    for hour in range(200):
        forecast, *states = rolling(x[:, hour], time[:, hour], *states)
        whole = net(*(s[:, hour : hour + n.history] for s in long))
        torch.testing.assert_close(forecast, whole, atol=1e-5, rtol=1e-6)


def test_an_hour_computes_one_column_and_one_row_whatever_the_period():
    """The products of a push, counted in the graph that torch traces: they do not grow with the number of columns."""

    def products_of_a_push(period: int) -> int:
        rolling = Rolling(network(Network(8 * period, period, period, 2, norm=False)))
        states = [torch.zeros([1 if s == "batch" else int(s) for s in shape]) for shape in rolling.states().values()]
        with FlopCounterMode(display=False) as counter:
            rolling(torch.zeros(1, 1), torch.zeros(1, 4), *states)
        head_and_row = 2 * (period * 2 * 1 + period * 5 * 2)  # Linear_row has P inputs, the head P columns
        return counter.get_total_flops() - head_and_row

    assert products_of_a_push(4) == products_of_a_push(32)


# --- data ----------------------------------------------------------------------------------------------------------


def test_time_features_are_those_of_the_calendar():
    hours = np.random.default_rng(0).integers(0, 600_000, 300)  # 1970 to 2038, leap days among them
    hours = np.concatenate([hours, [0, 24 * (365 * 2 + 58), 24 * (365 * 2 + 59), 24 * 366 * 3 - 1]])
    for hour, found in zip(hours, time_features(hours), strict=True):
        date = datetime.datetime(1970, 1, 1) + datetime.timedelta(hours=int(hour))
        day = date.timetuple().tm_yday
        expected = [date.hour / 23, date.weekday() / 6, (date.day - 1) / 30, (day - 1) / 365]
        np.testing.assert_allclose(found, np.array(expected) - 0.5, atol=1e-6)
    assert time_features(np.zeros((2, 3), np.int64)).shape == (2, 3, 4)


def test_the_parts_follow_each_other_and_no_forecast_crosses_a_border():
    n, series = Network(96, 48, 24, 2), generated()
    parts = parts_of(Data(), n)
    total, train, test = 1800, 1080, 360
    assert [parts.train.count, parts.validation.count, parts.test.count] == [train - 143, total - train - test - 47, test - 47]
    load = series.values[:, 0].astype(np.float32)
    np.testing.assert_array_equal(parts.validation.targets(np.array([0]))[0, :, 0], load[train : train + 48])
    np.testing.assert_array_equal(parts.test.targets(np.array([0]))[0, :, 0], load[total - test : total - test + 48])
    np.testing.assert_array_equal(parts.test.inputs(np.array([0]))["values"][0, :, 0], load[total - test - 96 : total - test])
    np.testing.assert_array_equal(parts.test.targets(np.array([parts.test.count - 1]))[0, :, 0], load[-48:])
    assert parts.mean[0] == pytest.approx(series.values[:train, 0].mean()) and parts.std[0] == pytest.approx(series.values[:train, 0].std())


def test_the_generated_series_is_its_formula():
    series = generated(3)
    e = np.random.Generator(np.random.PCG64(0)).standard_normal((3, 2))
    assert series.values[0, 0] == pytest.approx(10 + 2 * np.sin(1) + 0.5 * e[0, 0])
    assert series.values[2, 1] == pytest.approx(15 + 3 * np.sin(np.pi / 6 - 2) + np.cos(4 * np.pi / 168) + 0.5 * e[2, 1])
    date = np.datetime64("1970-01-01T00", "h") + series.hours[0]
    assert str(date) == "2020-01-01T00"


GOOD = "date,HUFL,OT\n2016-07-01 00:00:00,1.5,2\n2016-07-01 01:00:00,3,4\n"


@pytest.mark.parametrize("name", ["ETTh1.csv", "ETTh1.csv.gz"])
def test_a_csv_file_is_read_plain_or_packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str):
    (tmp_path / "ett").mkdir()
    (tmp_path / "ett" / name).write_bytes(gzip.compress(GOOD.encode()) if name.endswith("gz") else GOOD.encode())
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    both = load_series(Data("etth1", ("OT", "HUFL")))
    assert both.values.tolist() == [[2, 1.5], [4, 3]] and (both.hours - both.hours[0]).tolist() == [0, 1]
    assert load_series(Data("etth1")).names == ("OT",)
    with pytest.raises(EdgekitError, match=rf"{name} has no variable 'MOON'; there are: HUFL, OT"):
        load_series(Data("etth1", ("MOON",)))
    with pytest.raises(EdgekitError, match="the training part of etth1 has no window of 168"):
        parts_of(Data("etth1"), Network())
    with pytest.raises(EdgekitError, match=r"ETTh2\.csv\.gz nor ETTh2\.csv; put one of them there"):
        load_series(Data("etth2"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the first line must name the columns"),
        ("HUFL,OT\n1,2\n", "the first line must name the columns"),
        (GOOD.replace("3,4", "3"), "line 3: not a date and 2 numbers"),
        (GOOD.replace("3,4", "3,x"), "line 3: not a date and 2 numbers"),
        (GOOD.replace("3,4", "3,nan"), "line 3: not a date and 2 numbers"),
        (GOOD.replace("2016-07-01 00", "yesterday"), "line 2: not a date and 2 numbers"),
        (GOOD.replace("01:00", "02:00"), "line 3: 2016-07-01 02:00:00 is not an hour after the line before"),
        (GOOD.replace("00:00:00", "00:30:00"), "line 2: 2016-07-01 00:30:00 is not an hour"),
    ],
)
def test_a_broken_csv_file_is_refused_with_path_and_line(tmp_path: Path, text: str, says: str):
    path = tmp_path / "x.csv"
    path.write_text(text)
    with pytest.raises(Broken, match=says) as caught:
        read_csv(path)
    assert str(path) in str(caught.value)


def test_a_file_that_is_not_packed_is_refused(tmp_path: Path):
    path = tmp_path / "x.csv.gz"
    path.write_text(GOOD)
    with pytest.raises(Broken, match=r"x\.csv\.gz cannot be read as a CSV file"):
        read_csv(path)


def test_a_variable_that_never_changes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "ett").mkdir()
    start = datetime.datetime(2016, 7, 1)
    lines = "".join(f"{start + datetime.timedelta(hours=h)},1\n" for h in range(300))
    (tmp_path / "ett" / "ETTh2.csv").write_text("date,OT\n" + lines)
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    with pytest.raises(EdgekitError, match="OT of etth2 never changes"):
        parts_of(Data("etth2"), SMALL)


# --- recipes and baselines -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"history": 100}, "history and horizon must be multiples of period, 24 hours a row; found 100 and 168"),
        ({"horizon": 25}, "must be multiples of period"),
        ({"history": 24}, "history must hold at least 2 periods of 24 hours, found 24 hours"),
        ({"width": 0}, "width must be at least 1, found 0"),
    ],
)
def test_a_window_that_cannot_be_is_refused_in_one_sentence(changes: dict[str, int], says: str):
    with pytest.raises(EdgekitError, match=says):
        recipe.fill(Network, changes, "recipe: network")


@pytest.mark.parametrize("path", RECIPES, ids=lambda p: p.stem)
def test_a_recipe_can_be_read_and_says_the_published_task(path: Path):
    read = recipe.read(path)
    o = options_of(read.data)
    flow.deploy_formats(path)
    if o.data.name == "generated":
        return
    assert path.stem == f"tpgn_{o.data.name}_{o.network.horizon}" and o.network.period == 24 and o.network.history == 168
    assert o.network.norm == (o.data.name == "etth1") and len(o.seeds) == 5
    t = o.train
    assert (t.epochs, t.batch_size, t.learning_rate, t.decay, t.patience, t.optimizer) == (25, 32, 1e-3, 0.9, 5, "adam")


def test_all_rows_of_the_published_table_have_a_recipe():
    assert {p.stem for p in RECIPES} >= {f"tpgn_{d}_{h}" for d in ("etth1", "etth2") for h in (168, 336, 720, 1440)}


def test_baselines_are_their_formulas():
    n = Network(72, 48, 24, 2)
    z, time = windows(n, 2)
    torch.manual_seed(0)
    nlinear, dlinear = NLinear(n).requires_grad_(False), DLinear(n).requires_grad_(False)
    w, b, x = nlinear.linear.weight.numpy(), nlinear.linear.bias.numpy(), z.numpy()
    expected = np.einsum("hl,nlv->nhv", w, x - x[:, -1:]) + b[:, None] + x[:, -1:]
    np.testing.assert_allclose(nlinear.scaled_forecast(z, time).numpy(), expected, atol=1e-5)
    padded = np.concatenate([np.repeat(x[:, :1], 12, 1), x, np.repeat(x[:, -1:], 12, 1)], 1)
    trend = np.stack([padded[:, i : i + 25].mean(1) for i in range(72)], 1)
    parts = ((dlinear.trend, trend), (dlinear.season, x - trend))
    expected = sum(np.einsum("hl,nlv->nhv", m.weight.numpy(), y) + m.bias.numpy()[:, None] for m, y in parts)
    np.testing.assert_allclose(dlinear.scaled_forecast(z, time).numpy(), expected, atol=1e-5)
    repeated = repeat_last_day(x, n)
    np.testing.assert_array_equal(repeated[:, :24], x[:, -24:])
    np.testing.assert_array_equal(repeated[:, 24:], x[:, -24:])
    lstm = Lstm(n, 8, 2, 4).requires_grad_(False)
    torch.testing.assert_close(lstm.scaled_forecast(z + 1, time), lstm.scaled_forecast(z, time) + 1, atol=1e-4, rtol=0)


def test_multiply_adds_are_those_that_torch_counts():
    options = options_of({"family": "tpgn", "train": {"epochs": 1, "batch_size": 1, "learning_rate": 1.0}})
    for horizon in (168, 720):
        o = Options(options.train, Network(168, horizon, 24, 4))
        net, (x, time) = network(o.network), windows(o.network, count=1)
        with FlopCounterMode(display=False) as counter:
            net(x, time)
        assert counter.get_total_flops() == 2 * products("tpgn", o, 4, 1)


# --- trained and deployed ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tpgn") / "run"
    assert flow.train(ROOT / "examples/tpgn_generated.toml", out) == out / "train/window"
    return out


def exported(trained: Path, form: str) -> Bundle:
    out = trained / f"{form}-onnx"
    return flow.export(trained / "train" / form, "onnx", out)


def test_training_beats_the_last_day_and_says_what_it_was_held_against(trained: Path):
    result = json.loads((trained / "train/result.json").read_text())
    rows = {r["label"]: r for r in result["rows"]}
    model = next(r for r in result["rows"] if r["role"] == "model")
    assert sum(r["role"] == "model" for r in result["rows"]) == 1 and rows["repeat the last day"]["score"] == 0
    assert model["score"] > 0.7 and result["score_name"] == "skill over repeat-last-day"
    summary, each = result["tables"]
    seeds = [r for r in each["rows"] if r[0] == "TPGN"]
    best = min(seeds, key=lambda r: r[4])  # by validation
    assert model["label"] == f"TPGN, seed {best[1]}"
    ours = next(r for r in summary["rows"] if r[0] == "TPGN")
    assert ours[1].startswith(f"{np.mean([r[2] for r in seeds]):.4f}"[:5])


def test_a_second_run_trains_nothing_and_gives_the_same_bytes(trained: Path):
    files = sorted(p for p in (trained / "train").rglob("*") if p.is_file())
    before = {p: p.read_bytes() for p in files}
    times = {p: p.stat().st_mtime_ns for p in files if p.name == "model.safetensors"}
    flow.train(ROOT / "examples/tpgn_generated.toml", trained)
    assert {p: p.read_bytes() for p in files} == before and {p: p.stat().st_mtime_ns for p in times} == times


def test_both_forms_have_the_same_weights_and_the_seeds_are_no_models_to_deploy(trained: Path):
    family = registry.find(Family, "tpgn")
    window, rolling = (family.load(trained / "train" / form) for form in ("window", "rolling"))
    assert (trained / "train/window/model.safetensors").read_bytes() == (trained / "train/rolling/model.safetensors").read_bytes()
    assert window.program.runs_once and rolling.program.stream is not None and window.sha256 != rolling.sha256
    with pytest.raises(EdgekitError, match="one seed of a comparison; give the folder window or rolling beside it"):
        family.load(trained / "train/tpgn_s0")


def test_a_recipe_can_ask_for_the_rolling_form(trained: Path):
    read = recipe.read(ROOT / "examples/tpgn_generated.toml")
    family = registry.find(Family, "tpgn")
    options = options_of({**read.values, "form": "rolling"})
    assert family.fit(options, trained / "train", silent) == trained / "train/rolling"
    assert family.fit(options_of(read.values), trained / "train", silent) == trained / "train/window"


@pytest.mark.parametrize("form", ["window", "rolling"])
def test_a_form_gives_its_golden_answers_and_its_score_on_every_engine(trained: Path, form: str):
    onnx = exported(trained, form)
    openvino = flow.export(onnx.folder, "openvino", trained / f"{form}-openvino")
    for bundle, engine in ((onnx, "onnxruntime"), (onnx, "cpp"), (openvino, "openvino"), (openvino, "cpp_openvino")):
        if registry.load(Runtime, engine).ready():
            continue
        found = examine.verify(bundle, engine)
        assert found.passed, (engine, found.failures)
        assert found.output_max_abs is not None and found.output_max_abs <= 1e-5
        assert found.score == pytest.approx(found.score_reference, abs=1e-5) and found.score_samples == 313
        assert found.pieces_equal == (4 if form == "rolling" else 0)


def test_the_rolling_form_equals_the_window_over_500_pushes_one_by_one(trained: Path):
    rolling, window = exported(trained, "rolling"), exported(trained, "window")
    series = generated(700)
    x, time = series.values[None, :, :1].astype(np.float32), time_features(series.hours)[None]
    runtime = registry.find(Runtime, "onnxruntime")
    with runtime.open(rolling) as stream, runtime.open(window) as whole:
        stream.begin({})
        for hour in range(595):
            pushed = stream.push({"values": x[:, hour : hour + 1], "time": time[:, hour : hour + 1]})["forecast"]
            assert pushed.shape == (1, 1, 48, 1)
            if hour >= 95:
                part = slice(hour - 95, hour + 1)
                expected = whole.run({"values": np.ascontiguousarray(x[:, part]), "time": np.ascontiguousarray(time[:, part])})["forecast"]
                assert np.abs(pushed[:, 0] - expected).max() <= 1e-5


def test_eight_bits_begin_behind_the_normalisation_and_end_before_it_is_undone(trained: Path):
    import onnx

    int8 = flow.export(exported(trained, "window").folder, "onnx:int8", trained / "window-int8")
    graph = onnx.load(int8.graph("main")).graph
    made_by = {o: n for n in graph.node for o in n.output}
    used_by = {i: n for n in graph.node for i in n.input}
    assert used_by["values"].op_type == "Sub" and made_by["forecast"].op_type == "Sub"
    rounded = {n.input[0] for n in graph.node if n.op_type == "QuantizeLinear"}
    normalised = next(n for n in graph.node if n.op_type == "Sqrt").output[0]
    raw, pending = set(), ["forecast"]  # what lies between the last product and the forecast
    while pending:
        node = made_by[pending.pop()]
        if node.op_type in ("Sub", "Div", "Reshape", "Transpose"):
            raw |= set(node.output)
            pending += [i for i in node.input if i in made_by]
    assert rounded and not rounded & (raw | {"values", normalised})
    found = examine.verify(int8, "onnxruntime")
    assert found.passed and found.score is not None and found.score > found.score_reference - 0.01


def test_samples_are_validation_windows_and_held_out_ones_are_test_windows(trained: Path):
    family = registry.find(Family, "tpgn")
    for form, shape in (("window", (7, 96, 1)), ("rolling", (7, 120, 1))):
        model = family.load(trained / "train" / form).model
        seen, held = family.samples(model, 7), family.held_out(model, 7)
        assert seen["values"].shape == held["values"].shape == shape and seen["time"].shape == (*shape[:2], 4)
        series = generated().values[:, 0].astype(np.float32)
        last = [int(np.flatnonzero(series == v[-1, 0])[0]) for v in seen["values"]]
        assert max(last) < 1440 and min(int(np.flatnonzero(series == v[-1, 0])[0]) for v in held["values"]) >= 1439


def test_a_limited_score_is_that_of_the_first_windows_in_both_forms(trained: Path):
    family = registry.find(Family, "tpgn")
    for form in ("window", "rolling"):
        bundle = exported(trained, form)
        with registry.find(Runtime, "onnxruntime").open(bundle) as session:
            found = family.score(bundle.manifest.model, session.run, 40)
        parts = parts_of(Data(variables=("load",)), Network(96, 48, 24, 4))
        given, target = parts.test.inputs(np.arange(40)), parts.test.targets(np.arange(40))
        answer = family.load(trained / "train/window").eager(given["values"], given["time"])
        expected = 1 - np.square(answer - target).mean() / np.square(repeat_last_day(given["values"], Network(96, 48, 24, 4)) - target).mean()
        assert found.samples == 40 and found.value == pytest.approx(expected, abs=1e-5)


def test_two_variables_without_norm_are_a_stream_too(tmp_path: Path):
    read = recipe.read(ROOT / "examples/tpgn_generated.toml")
    values = {**read.values, "seeds": [0], "baselines": [], "form": "rolling", "data": {"name": "generated", "variables": ["temperature", "load"]}}
    values |= {"network": {**values["network"], "norm": False}, "train": {**values["train"], "epochs": 1}}
    checkpoint = registry.find(Family, "tpgn").fit(options_of(values), tmp_path / "train", silent)
    bundle = flow.export(checkpoint, "onnx", tmp_path / "onnx")
    found = examine.verify(bundle, "onnxruntime")
    assert found.passed and found.pieces_equal == 4, found.failures
    assert found.score == pytest.approx(found.score_reference, abs=1e-5)
    assert bundle.manifest.signature.outputs[0].shape == ("batch", "hours", 48, 2)
