"""The time-stepping family: integrators, published systems, environment, deep Q-learning, policies on every engine."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from edgekit import flow, recipe, registry, spiking_net
from edgekit.cpp_sources import json_include
from edgekit.errors import EdgekitError
from edgekit.integer_net import quantise
from edgekit.models import _time_stepping_evaluate as evaluate
from edgekit.models import _time_stepping_integers as integers
from edgekit.models import _time_stepping_numpy as reference
from edgekit.models._time_stepping_bodies import (
    UNIT_TIME_YR,
    UNIT_VELOCITY_KM_S,
    Systems,
    energy,
    momentum,
    published_systems,
    systems_of,
)  # fmt: skip
from edgekit.models._time_stepping_deploy import codes_of, decider, policy_of
from edgekit.models._time_stepping_environment import Environment, Reward, Rules, mover
from edgekit.models._time_stepping_net import PAIR_FEATURES, Pairs, Policy, Published, deployed, raw, staircase
from edgekit.models._time_stepping_options import Dqn, Network, Options, World, build, options_of, rules_of
from edgekit.models._time_stepping_score import episodes_score
from edgekit.models._time_stepping_spiking import written_out
from edgekit.parts import Family, Runtime

ROOT = Path(__file__).parent.parent
TINY = ROOT / "examples" / "time_stepping_tiny.toml"
MUS = World().parameters


def kepler(eccentricity: float) -> Systems:
    """A binary of total mass 1 and semi-major axis 1 at its farthest: period 2 pi."""
    far, slow = 1 + eccentricity, math.sqrt((1 - eccentricity) / (1 + eccentricity))
    s = systems_of(np.array([0.5, 0.5]), [[[far / 2, 0], [-far / 2, 0]]], [[[0, slow / 2], [0, -slow / 2]]])
    reference.start(s)
    return s


def three(*seeds: int) -> Systems:
    s = published_systems(seeds)
    reference.start(s)
    return s


# ---- integrators


def error_after_a_period(steps_a_period: float, eccentricity: float, name: str) -> float:
    """Distance from the start after one period of the orbit, which ends where it began."""
    s = kepler(eccentricity)
    start = s.position.copy()
    mover(name)(s, 2 * math.pi, np.array([1 / steps_a_period]))  # type: ignore[arg-type]
    return float(np.abs(s.position - start).max())


def test_hermite_is_of_fourth_order_on_an_eccentric_orbit():
    errors = [error_after_a_period(n, 0.6, "hermite") for n in (100, 200, 400, 800)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(3.8 <= order <= 4.2 for order in orders[1:]), orders


def test_leapfrog_is_of_second_order():
    errors = []
    for n in (500, 1000, 2000):
        s = kepler(0.5)
        start = s.position.copy()
        mover("leapfrog")(s, 2 * math.pi, np.array([n]))
        errors.append(np.abs(s.position - start).max())
    assert [round(math.log2(a / b), 1) for a, b in zip(errors, errors[1:], strict=False)] == [2.0, 2.0]


@pytest.mark.parametrize(("name", "parameter"), [("hermite", 0.01), ("adaptive_leapfrog", 0.01), ("leapfrog", 50)])
def test_momentum_does_not_drift(name, parameter):
    s = three(*range(10))
    for _ in range(100):
        mover(name)(s, 0.1 / UNIT_TIME_YR, np.full(10, parameter))
    assert np.abs(momentum(s)).max() < 1e-12


def test_leapfrog_run_backwards_comes_back_to_its_start():
    s = three(3, 5)
    x, v = s.position.copy(), s.velocity.copy()
    mover("leapfrog")(s, 20.0, np.full(2, 4000))
    assert np.abs(s.position - x).max() > 1  # it went somewhere
    s.velocity[:] *= -1
    mover("leapfrog")(s, 20.0, np.full(2, 4000))
    np.testing.assert_allclose(s.position, x, atol=1e-9)
    np.testing.assert_allclose(s.velocity, -v, atol=1e-9)


def test_hermite_agrees_with_scipys_dop853():
    s = three(0)
    mass, first = s.mass, np.concatenate([s.position[0].ravel(), s.velocity[0].ravel()])

    def newton(_: float, y: np.ndarray) -> np.ndarray:
        x = y[:6].reshape(3, 2)
        apart = x[None] - x[:, None]
        r3 = (np.square(apart).sum(2) + np.eye(3)) ** 1.5
        return np.concatenate([y[6:], (mass[None, :, None] * apart / r3[:, :, None]).sum(1).ravel()])

    exact = solve_ivp(newton, (0, 60.0), first, method="DOP853", rtol=1e-13, atol=1e-13).y[:, -1]
    mover("hermite")(s, 60.0, np.array([0.001]))
    np.testing.assert_allclose(np.concatenate([s.position[0].ravel(), s.velocity[0].ravel()]), exact, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize(("name", "parameter"), [("hermite", 0.05), ("adaptive_leapfrog", 0.05), ("leapfrog", 7)])
def test_compiled_and_plain_integrators_agree_to_the_bit(name, parameter):
    plain, fast = three(*range(12)), three(*range(12))
    for _ in range(40):
        mover(name, compiled=False)(plain, 1.0, np.full(12, parameter))
        mover(name)(fast, 1.0, np.full(12, parameter))
    for part in ("position", "velocity", "acceleration", "quartic", "evaluations"):
        assert np.array_equal(getattr(plain, part), getattr(fast, part)), part


def test_a_step_is_as_long_as_the_rule_says_and_the_last_one_ends_on_time():
    s = three(4)
    r, v = (np.array([np.hypot(*(p[0, k] - p[0, i])) for i, k in ((0, 1), (0, 2), (1, 2))]) for p in (s.position, s.velocity))
    free_fall = np.sqrt(np.sqrt(r**2 / ((1 / r**2) ** 2 * (2 / 3) ** 2)))  # (r^2 / (a^2 M^2))^(1/4) with a = 1 / r^2
    scale = min((r / v).min(), free_fall.min())
    before = int(s.evaluations[0])
    mover("hermite")(s, 0.1 * scale * 0.999, np.array([0.1]))
    assert s.evaluations[0] - before == 1
    again = three(4)
    mover("hermite")(again, 0.1 * scale * 1.001, np.array([0.1]))
    assert again.evaluations[0] - before == 2


# ---- the published systems


def test_published_systems_are_those_of_numpys_legacy_generator():
    for seed in (0, 1, 7, 88):
        np.random.seed(seed)  # noqa: NPY002 - as the published environment does it, in one draw of four
        x2, y2, x3, y3 = np.random.uniform(low=[5, 0, 0, 5], high=[20, 10, -10, 20])  # noqa: NPY002
        position = np.array([(0, 0), (x2, y2), (x3, y3)])
        s = published_systems([seed])
        np.testing.assert_allclose(s.position[0], position - position.sum(0) / 3, rtol=1e-15, atol=1e-15)
        velocity = np.array([(0, 10.0), (-10.0, 0), (0, 0)])
        np.testing.assert_allclose(s.velocity[0] * 51.5886, velocity - velocity.mean(0), rtol=1e-5, atol=1e-5)
        assert np.abs(momentum(s)).max() < 1e-16


def test_the_first_system_by_hand():
    """Seed 0: the Mersenne Twister's first four numbers are .5488135, .71518937, .60276338, .54488318."""
    s = published_systems([0])
    x2, y2, x3, y3 = 5 + 15 * 0.5488135, 10 * 0.71518937, -10 * 0.60276338, 5 + 15 * 0.54488318
    cx, cy = (x2 + x3) / 3, (y2 + y3) / 3
    np.testing.assert_allclose(s.position[0], [(-cx, -cy), (x2 - cx, y2 - cy), (x3 - cx, y3 - cy)], atol=2e-7)
    u = 10 / UNIT_VELOCITY_KM_S
    np.testing.assert_allclose(s.velocity[0], [(u / 3, 2 * u / 3), (-2 * u / 3, -u / 3), (u / 3, -u / 3)], rtol=1e-12)


def test_units_are_those_of_the_gaussian_year():
    # Kepler: a body of 1 Msun at 1 au takes one (sidereal) year, so T(3 Msun) = 1 yr / (2 pi sqrt 3), v = 29.785 km/s * sqrt 3
    assert pytest.approx(1 / (2 * math.pi * math.sqrt(3)), rel=4e-5) == UNIT_TIME_YR
    assert pytest.approx(29.785 * math.sqrt(3), rel=4e-5) == UNIT_VELOCITY_KM_S


# ---- the environment


def rules(**changes: object) -> Rules:
    return dataclasses.replace(Rules("hermite", 0.1, MUS, Reward()), **changes)  # type: ignore[arg-type]


def test_a_system_moves_alike_alone_and_among_others():
    alone, among = Environment(rules(), [5]), Environment(rules(), range(10))
    actions = np.random.default_rng(0).integers(10, size=(50, 10))
    for chosen in actions:
        alone.step(chosen[5:6])
        among.step(chosen)
    assert np.array_equal(alone.state()[0], among.state()[5])
    assert alone.systems.evaluations[0] == among.systems.evaluations[5]


def test_the_error_is_cumulative_and_cost_is_counted():
    e = Environment(rules(), [2, 9])
    first = energy(e.systems)
    used = sum(e.step(np.array([8, 2])).evaluations for _ in range(30))
    assert e.error == pytest.approx((energy(e.systems) - first) / first + 1e-20)
    assert np.array_equal(used + 1, e.systems.evaluations)  # 1: the first accelerations
    assert e.state().shape == (2, 13) and np.array_equal(e.state()[:, 12], e.error)


def test_an_episode_ends_above_the_limit_and_the_system_then_stays():
    e = Environment(rules(error_limit=1e-9), [0, 1, 2])
    while not e.ended.any():
        e.step(np.full(3, 9))
    row = int(np.flatnonzero(e.ended)[0])
    there = e.state()[row].copy()
    outcome = e.step(np.full(3, 9))
    assert outcome.evaluations[row] == 0 and np.array_equal(e.state()[row], there)
    e.reset(np.array([row]), [77])
    assert not e.ended[row] and np.array_equal(e.systems.position[row], published_systems([77]).position[0])


def test_rewards_follow_their_formulas():
    now, before, cost, mu, i = np.array([1e-6]), np.array([2e-8]), np.array([25]), np.array([0.01]), np.array([4])
    given = (now, before, cost, mu, i)
    published = Reward("published", 3000.0, 4.0).of(*given)[0]
    assert published == pytest.approx(-3000 * 4 / 6**3 / 4 + 4 / 2)
    assert Reward("published", 3000.0, 4.0).of(now, before, cost, mu, np.array([1]))[0] == 0
    assert Reward("plain", 2.0, 4.0).of(*given)[0] == pytest.approx(2 * 6 + 4 / 2)
    assert Reward("increment", 1.0, 3.0).of(*given)[0] == pytest.approx(-math.log10(9.8e-7) - 3 * math.log10(25))
    assert Reward("balance", 1e7).of(*given)[0] == pytest.approx(-math.log10(25 + 9.8))
    assert Reward("balance", 1e7, relief=2e-8).of(*given)[0] == pytest.approx(-math.log10(25 + 4.9))


def test_trying_an_action_changes_nothing():
    e = Environment(rules(), [1, 2])
    before = e.state()
    e.copy().step(np.array([9, 9]))
    assert np.array_equal(e.state(), before)
    states, rewards = evaluate.worth(rules(), range(5), 21, 10, 5)
    assert states.shape == (15, 13) and rewards.shape == (15, 10)
    tried = Environment(rules(), range(5))
    assert np.allclose(rewards[:5, 3], tried.step(np.full(5, 3)).reward)


# ---- figures


def test_the_curve_is_interpolated_in_logarithms_and_leaves_out_what_is_beaten():
    curve = evaluate.Curve.of([(100, 1e-2), (10000, 1e-6), (20000, 1e-5), (1000, 1e-4)])
    assert curve.evaluations.tolist() == [100, 1000, 10000]
    assert curve.error_factor(math.sqrt(1e5), 1e-3) == pytest.approx(1)
    assert curve.error_factor(1000, 5e-4) == pytest.approx(5)
    assert curve.cost_factor(3000, 1e-4) == pytest.approx(3)


def test_a_fixed_parameter_lies_on_its_own_curve_and_is_as_efficient_as_itself():
    found = evaluate.Baselines.of(rules(), 0.03, range(30), 60)
    for figures in (found.each[6], found.default):
        place = found.place(figures)
        assert place["error_factor"] == pytest.approx(1) and place["cost_factor"] == pytest.approx(1)
    assert evaluate.efficiency(found.default_episodes, found.default_episodes, 5.0) == pytest.approx(0.5)


# ---- networks


def test_pair_features_are_the_documented_ones_and_know_no_direction():
    states = evaluate.play(evaluate.fixed(5), rules(), range(8), 30, keep=True).states[::10].reshape(-1, 13)
    found = Pairs().measures(torch.from_numpy(states)).numpy()  # in float64
    for state, features in zip(states, found, strict=True):
        x, v = state[:6].reshape(3, 2), state[6:12].reshape(3, 2)
        pairs = []
        for i, k in ((0, 1), (0, 2), (1, 2)):
            d, w = x[k] - x[i], v[k] - v[i]
            r, s = np.hypot(*d), np.hypot(*w)
            pairs.append((min(r / s, math.sqrt(r**3 * 1.5)), math.log10(r), d @ w / (r * s), math.log10(s * s * r * 1.5)))
        total = np.square(v).sum() / 6 - sum(1 / np.hypot(*(x[k] - x[i])) / 9 for i, k in ((0, 1), (0, 2), (1, 2)))
        digits = min(20.0, -math.log10(abs(state[12]) + 1e-20))
        expected = [f for p in sorted(pairs) for f in p[1:]] + [digits, math.log10(abs(total))]
        np.testing.assert_allclose(features, expected, rtol=1e-6, atol=1e-6)
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    turned = states.copy()
    turned[:, :12] = (states[:, :12].reshape(-1, 6, 2) @ turn).reshape(-1, 12)
    swapped = states[:, [2, 3, 4, 5, 0, 1, 8, 9, 10, 11, 6, 7, 12]]
    for other in (turned, swapped):
        np.testing.assert_allclose(Pairs().measures(torch.from_numpy(other)).numpy(), found, rtol=1e-6, atol=1e-6)


def test_the_published_network_ties_its_nine_hidden_layers():
    tied, free = (Policy(Published(), 200, 10, t, 10) for t in (True, False))
    count = [sum(p.numel() for p in n.parameters()) for n in (tied, free)]
    assert count == [13 * 200 + 200 + 200 * 200 + 200 + 2010, 13 * 200 + 200 + 9 * (200 * 200 + 200) + 2010]
    x = torch.randn(5, 13)
    with torch.no_grad():
        h = torch.relu(tied.first(Published()(x)))
        for _ in range(9):
            h = torch.relu(tied.hidden[0](h))
        assert torch.equal(tied.last(h), tied(x))


def test_a_staircase_is_the_mean_of_threshold_neurons_and_the_policy_written_out_decides_as_before():
    u = torch.linspace(-0.5, 1.5, 4001, dtype=torch.float64) + 1e-5 * math.pi  # off the ties
    neurons = sum((u > (k - 0.5) / 15).double() for k in range(1, 16)) / 15
    assert (staircase(u, 15) - neurons).abs().max() < 1e-12
    torch.manual_seed(3)
    policy = build(Options(network=Network(width=24, layers=3, levels=7))).eval()
    with torch.no_grad():
        for layer in (policy.first, *policy.hidden):  # so that activations vary
            layer.weight.mul_(2)
    codes = codes_of(evaluate.play(evaluate.fixed(5), rules(), range(8), 60, keep=True).visited())
    states = raw(evaluate.play(evaluate.fixed(5), rules(), range(8), 10, keep=True).visited())
    with torch.no_grad():
        currents = policy._current(policy.first, policy.encoder(states))
        own = (currents[:, :, None] - (torch.arange(1, 8) - 0.5) / 7).abs().amin((1, 2))
        assert (policy.off_step(states) <= own + 1e-6).all() and (policy.off_step(states) > 0).all()
    spiking = written_out(policy)
    with torch.no_grad():
        values = policy.of_features((torch.from_numpy(codes[:, : len(PAIR_FEATURES)]).float() - 128) / 128)
        made, *spikes = spiking(torch.from_numpy(codes))
    assert [s.shape[1] for s in spikes] == [24 * 7] * 3 and all(0.02 < float(s.mean()) < 0.98 for s in spikes)
    values, made = (t - t.mean(1, keepdim=True) for t in (values, made))
    factor = float((made * values).sum() / values.square().sum())
    assert 0.5 < factor <= 1.001 and float((made / factor - values).square().mean().sqrt()) < 0.03 * float(values.std())


def test_neurons_of_codes_fire_where_the_unit_says_exactly():
    rng = np.random.default_rng(0)
    whole = rng.integers(-60, 61, (20, 11))
    whole[:, 0] = rng.choice([-127, 127], 20)
    bias = rng.uniform(-0.3, 0.3, 20)
    made = integers.of_codes(whole * 0.004, bias, 15)
    k = np.concatenate([rng.integers(-128, 128, (2000, 11)), np.full((2000, integers.CONSTANTS), 127)], 1)
    fires = (k @ made.weight.T > made.theta).reshape(2000, 20, 15)
    current = ((k[:, :11] @ whole.T) * 0.004 / 128 + bias)[:, :, None]  # the whole sum is exact, no rounding of a step
    clear = np.abs(current - integers.own_thresholds(15)) > 1e-9
    assert np.array_equal(fires[clear], (current > integers.own_thresholds(15))[clear])


def test_weights_of_a_unit_that_fires_in_order_add_up_to_within_half_a_step():
    weight = np.random.default_rng(1).uniform(-1, 1, (6, 5))
    for made, exact in ((integers.readout(weight, np.zeros(6), 15), weight), (integers.readout(weight / 9, np.zeros(6), 7), weight / 9)):
        levels = made.weight.shape[1] // 5
        sums = made.weight.reshape(6, 5, levels).cumsum(2) * made.step
        assert np.abs(sums - exact[:, :, None] * np.arange(1, levels + 1) / levels).max() <= 0.5001 * made.step
        assert np.abs(made.weight).max() == 127


@pytest.mark.parametrize(("width", "levels", "size"), [(24, 15, 1.0), (8, 3, 6.0), (200, 15, 3.0)])
def test_loihis_integers_are_the_spiking_policy_itself(width: int, levels: int, size: float):
    torch.manual_seed(width)
    policy = build(Options(network=Network(width=width, layers=3, levels=levels))).eval()
    with torch.no_grad():
        for layer in (policy.first, *policy.hidden):
            layer.weight.mul_(size)
            layer.bias.mul_(size)
    net = written_out(policy)
    codes = codes_of(evaluate.play(evaluate.fixed(5), rules(), range(6), 40, keep=True).visited())
    with torch.no_grad():
        logits, *spikes = (t.numpy() for t in net(torch.from_numpy(codes)))
    found = spiking_net.simulate(quantise(net.plain()), codes)
    assert all(np.array_equal(found[n], s) for n, s in zip(net.names, spikes, strict=True))
    assert np.array_equal(found["logits"], logits)


def test_codes_are_bytes_and_the_float_policy_sees_no_more_than_them():
    states = evaluate.play(evaluate.fixed(5), rules(), range(8), 60, keep=True).visited()
    codes = codes_of(states)
    assert codes.dtype == np.uint8 and (codes[:, len(PAIR_FEATURES) :] == 255).all() and codes.shape[1] == len(PAIR_FEATURES) + 3
    codes = codes[:, : len(PAIR_FEATURES)]
    assert (codes.std(0) > 3).all()  # every feature says something
    assert torch.equal((torch.from_numpy(codes).float() - 128) / 128, Pairs()(raw(states)))


def test_epsilon_falls_over_the_whole_training_or_as_published_in_each_episode():
    whole, quirk = Dqn(steps=100, epsilon_decisions=1000), Dqn(steps=100, epsilon_decisions=1000, reset_epsilon=True)
    assert whole.epsilon(0) == quirk.epsilon(0) == 0.9
    assert whole.epsilon(5000) < 0.06 and min(quirk.epsilon(n) for n in range(5000)) > 0.81


@pytest.mark.parametrize(
    ("kind", "values", "says"),
    [
        (World, {"low": 0.1, "high": 0.01}, "0 < low < high"), (World, {"integrator": "leapfrog"}, "at least 1 substep"),
        (Dqn, {"gamma": 1.0}, "gamma"), (Dqn, {"blocks": 0}, "blocks must be at least 1, found 0"),
        (Network, {"layers": 1}, "at least 2 layers"), (Reward, {"w_error": -1.0}, "0 or more"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(kind, values, says):
    with pytest.raises(EdgekitError, match=says):
        recipe.fill(kind, values, "recipe")


# ---- the whole path


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("time") / "tiny"
    flow.train(TINY, out)
    return out


def test_training_goes_on_after_a_stop_and_ends_with_the_same_weights(run: Path, tmp_path: Path, monkeypatch):
    from edgekit.models import _time_stepping_dqn as dqn

    original, calls = dqn._block, []

    def stop_in_the_third(*given):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return original(*given)

    monkeypatch.setattr(dqn, "_block", stop_in_the_third)
    with pytest.raises(KeyboardInterrupt):
        flow.train(TINY, tmp_path / "tiny")
    monkeypatch.setattr(dqn, "_block", original)
    flow.train(TINY, tmp_path / "tiny")
    for form in ("policy", "spiking"):
        names = [f / "train" / form / "model.safetensors" for f in (run, tmp_path / "tiny")]
        assert names[0].read_bytes() == names[1].read_bytes()


def test_the_result_names_the_model_its_baselines_and_tables(run: Path):
    result = json.loads((run / "train" / "result.json").read_text())
    assert [r["role"] for r in result["rows"]].count("model") == 1
    pareto = result["tables"][0]
    assert len(pareto["rows"]) == 10 + 4 and all(len(r) == len(pareto["columns"]) for r in pareto["rows"])
    assert len(result["tables"]) == 5 and "transferred" in result["tables"][3]["title"]


def test_several_processes_are_refused(tmp_path: Path):
    with pytest.raises(EdgekitError, match="leave out --devices"):
        flow.train(TINY, tmp_path, devices=2)


@pytest.fixture(scope="module")
def bundles(run: Path) -> Path:
    for wish in ("onnx", "onnx:int8", "openvino"):
        flow.export(run / "train" / "policy", wish, run / "bundles" / wish.replace(":", "-"))
    flow.export(run / "train" / "spiking", "nir", run / "bundles" / "nir")
    flow.export(run / "train" / "spiking", "onnx", run / "bundles" / "spiking")
    return run / "bundles"


@pytest.mark.parametrize(("bundle", "runtime"), [("onnx", "onnxruntime"), ("openvino", "openvino"), ("onnx", "cpp")])
def test_every_engine_decides_as_torch_does(run: Path, bundles: Path, bundle: str, runtime: str):
    from edgekit.bundle import open_bundle
    from edgekit.checkpoint import open_checkpoint

    part = registry.find(Runtime, runtime)
    if runtime == "cpp" and (not shutil.which("c++") or not shutil.which("cmake", path=_path())):
        pytest.skip("no cmake or no C++ compiler")
    policy = policy_of(open_checkpoint(run / "train" / "policy"))
    states = evaluate.play(decider(policy), rules(), range(20), 40, keep=True).states.transpose(1, 0, 2).astype(np.float32)
    with part.open(open_bundle(bundles / bundle)) as session:
        answers = session.run({"state": np.ascontiguousarray(states)})
    with torch.no_grad():
        values = policy(torch.from_numpy(states.reshape(-1, 13))).numpy()
    values -= values.mean(1, keepdims=True)
    given = answers["values"].reshape(values.shape)
    close = np.abs(given - given.mean(1, keepdims=True) - values).max(1) < 1e-3
    assert close.mean() > 0.99  # the rest: an 8-bit code on the edge between two levels
    assert (answers["action"].ravel() == values.argmax(1))[close].mean() > 0.999
    assert np.array_equal(answers["action"], answers["values"].argmax(2))


def test_int8_decides_as_float_does(run: Path, bundles: Path):
    from edgekit.bundle import open_bundle
    from edgekit.checkpoint import open_checkpoint

    policy = policy_of(open_checkpoint(run / "train" / "policy"))
    states = evaluate.play(decider(policy), rules(), range(40, 60), 40, keep=True).visited().astype(np.float32)
    with registry.find(Runtime, "onnxruntime").open(open_bundle(bundles / "onnx-int8")) as session:
        chosen = session.run({"state": states[:, None]})["action"][:, 0]
    assert (chosen == decider(policy)(states)).mean() >= 0.98


def test_the_spiking_policy_decides_as_float_does_in_loihis_integers_too(run: Path, bundles: Path):
    from edgekit.bundle import open_bundle
    from edgekit.checkpoint import open_checkpoint

    flow.calibrate(bundles / "nir", "loihi", bundles / "nir-int8")
    policy = policy_of(open_checkpoint(run / "train" / "policy"))
    states = evaluate.play(decider(policy), rules(), range(40, 60), 40, keep=True).visited().astype(np.float32)
    answers = []
    for bundle, runtime in (("nir-int8", "reference"), ("nir-int8", "nir"), ("nir", "nir"), ("spiking", "onnxruntime")):
        with registry.find(Runtime, runtime).open(open_bundle(bundles / bundle)) as session:
            answers.append(session.run({"codes": codes_of(states)})["logits"])
    assert (answers[0].argmax(1) == decider(policy)(states)).mean() >= 0.98
    assert all(np.array_equal(a, answers[0]) for a in answers[1:])


def test_rounded_weights_are_what_eight_bits_hold():
    torch.manual_seed(0)
    policy = build(Options(network=Network(width=16)))
    weight = deployed(policy).first.weight.detach().numpy()
    steps = weight / np.abs(weight).max(1, keepdims=True) * 127
    assert np.abs(steps - np.round(steps)).max() < 1e-4 and np.abs(np.round(steps)).max() == 127
    states = raw(evaluate.play(evaluate.fixed(5), rules(), range(4), 20, keep=True).visited())
    with torch.no_grad():
        values = policy.eval()(states)
        given = deployed(policy)(states)
    assert float((given.argmax(1) == values.argmax(1)).float().mean()) > 0.99
    assert float((given.max(1).values - given.topk(2, 1).values[:, 1] - (values.topk(2, 1).values @ torch.tensor([1.0, -1.0]))).abs().max()) < 1e-4


def test_nir_arrays_spike_as_the_trained_network(run: Path, bundles: Path):
    from edgekit.bundle import open_bundle
    from edgekit.checkpoint import open_checkpoint
    from edgekit.models._time_stepping_deploy import TrainedSpiking

    trained = TrainedSpiking(open_checkpoint(run / "train" / "spiking"))
    codes = codes_of(evaluate.play(evaluate.fixed(7), rules(), range(50, 60), 60, keep=True).visited())
    with torch.no_grad():
        logits, *spikes = trained.net(torch.from_numpy(codes))
    plain = spiking_net.simulate(spiking_net.load(bundles / "nir" / "spiking_net.safetensors"), codes)
    assert (plain["logits"].argmax(1) == logits.numpy().argmax(1)).mean() > 0.999
    assert 0.02 < float(spikes[0].mean()) < 0.9
    for bundle, runtime in (("nir", "nir"), ("spiking", "onnxruntime")):
        with registry.find(Runtime, runtime).open(open_bundle(bundles / bundle)) as session:
            assert (session.run({"codes": codes})["logits"].argmax(1) == logits.numpy().argmax(1)).mean() > 0.999


def test_the_score_plays_episodes_with_the_given_run(run: Path):
    from edgekit.checkpoint import open_checkpoint
    from edgekit.models._time_stepping_deploy import TrainedPolicy

    checkpoint = open_checkpoint(run / "train" / "policy")
    trained = TrainedPolicy(checkpoint)
    family = registry.find(Family, "time_stepping")
    calls = []

    def session(inputs):
        calls.append(inputs["state"].shape)
        with torch.no_grad():
            values = trained.policy(torch.from_numpy(inputs["state"][:, 0]))
        return {"action": values.argmax(1, keepdim=True).numpy(), "values": values[:, None].numpy()}

    score = family.score(trained.model, session)
    assert score.value == pytest.approx(checkpoint.facts["score"], abs=1e-12) and calls == [(20, 1, 13)] * 30
    options = options_of(checkpoint.facts["recipe"])
    assert episodes_score(options, evaluate.fixed(0))[0] < episodes_score(options, evaluate.fixed(6))[0] < 0.9
    inputs = family.samples(trained.model, 50)["state"]
    assert inputs.shape == (50, 1, 13) and inputs.dtype == np.float32


# ---- the C++ application


def _path() -> str:
    return os.pathsep.join((os.environ["PATH"], str(Path(sys.executable).parent)))


@pytest.mark.builds
def test_the_cpp_application_moves_the_bodies_as_python_does(run: Path, bundles: Path, tmp_path: Path):
    if not shutil.which("cmake", path=_path()) or not shutil.which("c++", path=_path()):
        pytest.skip("no cmake or no C++ compiler")
    from edgekit.checkpoint import open_checkpoint

    env = {**os.environ, "PATH": _path(), "EDGEKIT_PYTHON": sys.executable}
    source = ROOT / "examples" / "three_body"
    json_folder = f"-DEDGEKIT_JSON_INCLUDE={json_include()}"
    for command in (["cmake", "-S", str(source), "-B", str(tmp_path), json_folder, "-DCMAKE_BUILD_TYPE=Debug"], ["cmake", "--build", str(tmp_path), "--parallel", "2"]):
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    policy = decider(policy_of(open_checkpoint(run / "train" / "policy")))
    for seed in (3, 41):
        e = Environment(rules(), [seed])
        expected = []
        for _ in range(60):
            action = policy(e.state())
            e.step(action)
            expected.append((int(action[0]), MUS[int(action[0])], float(e.error[0]), int(e.systems.evaluations[0])))
        done = subprocess.run(
            [tmp_path / "three_body", bundles / "onnx", "--seed", str(seed), "--intervals", "60"],
            capture_output=True, text=True, check=False, env=env,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        rows = [line.split() for line in done.stdout.splitlines()[1:-1]]
        assert [(int(r[1]), float(r[2]), int(r[4])) for r in rows] == [(a, m, n) for a, m, _, n in expected]
        np.testing.assert_allclose([float(r[3]) for r in rows], [d for _, _, d, _ in expected], rtol=1e-6, atol=1e-13)
    wrong = subprocess.run([tmp_path / "three_body", tmp_path], capture_output=True, text=True, check=False, env=env)
    assert wrong.returncode == 2 and "error" in wrong.stderr


def test_options_and_recipes_of_the_examples_are_read():
    for path in sorted((ROOT / "examples").glob("time_stepping_*.toml")):
        read = recipe.read(path)
        options: Options = recipe.fill(Options, {k: v for k, v in read.values.items() if k != "deploy"}, str(path))
        assert read.family == "time_stepping" and rules_of(options).parameters
