"""Levels, the network, and samplers as tables, against samplers written out step by step around a denoiser in closed form."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from edgekit import registry, verify
from edgekit.bundle import Allowed, Bundle, GoldenNote
from edgekit.errors import EdgekitError
from edgekit.intake import Own
from edgekit.models._diffusion.deploy import ALLOWED_MAX_ABS, IMAGE, describe, goldens
from edgekit.models._diffusion.net import Conv, UNet, hidden_matrices
from edgekit.models._diffusion.plans import KINDS, Sampling, columns, rows
from edgekit.models._diffusion.sampler import path, sample
from edgekit.models._diffusion.schedule import added, clean, noise, noised, signal, velocity
from edgekit.models._diffusion.step import Step, nearest
from edgekit.noise import draw
from edgekit.parts import Exporter, Runtime

SIDE, CENTRES, SPREAD = 4, 3, 0.3
SHAPE = (1, SIDE, SIDE)
ASKED = np.array([[0], [1], [2], [1], [0]], np.int64)  # 2: not given
SEED = 11


class Mixture(torch.nn.Module):
    """v of pictures around three centres, exactly: p(x0) is a mixture of Gaussians, of which a condition leaves out one."""

    heads, channels, size, slots, jumps = (2,), 1, SIDE, 1, False
    centres: Tensor
    wanted: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("centres", torch.from_numpy(centres().astype(np.float32)))
        self.register_buffer("wanted", torch.from_numpy(np.log(wanted()).astype(np.float32)))

    def forward(self, x: Tensor, levels: Tensor, condition: Tensor, jump: Tensor | None = None) -> Tensor:
        """As UNet."""
        a, b = signal(levels)[:, :, None], noise(levels)[:, :, None]
        spread = a * a * SPREAD**2 + b * b
        gap = x.flatten(1)[:, None] - a * self.centres
        weight = torch.softmax(self.wanted[condition[:, 0]][:, :, None] - (gap * gap).sum(2, keepdim=True) / (2 * spread), 1)
        eps = (weight * gap).sum(1) * (b / spread)[:, 0]
        guess = (weight * (self.centres + a * SPREAD**2 / spread * gap)).sum(1)
        return (a[:, 0] * eps - b[:, 0] * guess).reshape(x.shape)


def centres() -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.8, 0.8, (CENTRES, SIDE * SIDE))


def wanted() -> np.ndarray:
    return np.array([[1e-9, 0.5, 0.5], [0.5, 1e-9, 0.5], [1 / 3, 1 / 3, 1 / 3]])


def eps_of(x: np.ndarray, level: float | np.ndarray, asked: np.ndarray = ASKED) -> np.ndarray:
    """-b times the score of the noisy mixture, in float64: what Mixture should say, from its density instead of its moments."""
    level = np.broadcast_to(np.asarray(level, float), len(x))[:, None, None]
    a, b = np.cos(np.pi / 2 * level / 1000), np.sin(np.pi / 2 * level / 1000)
    spread = (a * SPREAD) ** 2 + b**2
    gap = x.reshape(len(x), 1, -1) - a * centres()
    energy = np.log(wanted()[asked[:, 0]]) - (gap**2).sum(2) / (2 * spread[:, :, 0])
    share = np.exp(energy - energy.max(1, keepdims=True))
    share /= share.sum(1, keepdims=True)
    return np.asarray((b[:, 0] * (share[:, :, None] * gap / spread).sum(1)).reshape(x.shape))


def abar(level: float | np.ndarray) -> np.ndarray:
    return np.cos(np.pi / 2 * np.asarray(level, float) / 1000).reshape(-1, 1, 1, 1) ** 2


def transfer(x: np.ndarray, eps: np.ndarray, level: float | np.ndarray, to: float | np.ndarray) -> np.ndarray:
    """Liu et al., eq. 11, as it stands there; without a clamp."""
    p, q = abar(level), abar(to)
    return np.asarray(np.sqrt(q / p) * x - (q - p) / (np.sqrt(p) * (np.sqrt((1 - q) * p) + np.sqrt((1 - p) * q))) * eps)


def start(seed: int = SEED) -> np.ndarray:
    return draw("normal", (len(ASKED), *SHAPE), seed, 0).astype(float)


def made(sampling: Sampling, seed: int = SEED) -> np.ndarray:
    return sample(Mixture(), sampling, torch.from_numpy(ASKED), seed).numpy()  # type: ignore[arg-type]


# ---- schedule


def test_level_0_is_the_clean_picture_and_level_1000_noise_alone_exactly() -> None:
    for kind in (np.float32, np.float64):
        ends = np.array([0, 1000], kind)
        assert signal(ends).tolist() == [1, 0] and noise(ends).tolist() == [0, 1] and signal(ends).dtype == kind
    ends_torch = torch.tensor([0.0, 1000.0])
    assert signal(ends_torch).tolist() == [1, 0] and noise(ends_torch).tolist() == [0, 1]


def test_the_schedule_is_the_cosine_one_and_keeps_the_variance() -> None:
    levels = np.linspace(0, 1000, 333)
    assert np.allclose(signal(levels), np.cos(np.pi * levels / 2000), atol=1e-15)
    assert np.allclose(signal(levels) ** 2 + noise(levels) ** 2, 1, atol=1e-15)


def test_v_gives_the_clean_picture_and_the_noise_back_at_every_slots_own_level() -> None:
    rng = np.random.default_rng(0)
    x0, eps = (rng.normal(size=(5, 6, 4, 4)).astype(np.float32) for _ in range(2))
    levels = rng.uniform(0, 1000, (5, 3)).astype(np.float32)
    x, v = noised(x0, eps, levels), velocity(x0, eps, levels)
    assert np.allclose(clean(x, v, levels), x0, atol=1e-5) and np.allclose(added(x, v, levels), eps, atol=1e-5)
    for slot in range(3):  # channels 2k and 2k + 1 are slot k's
        part = slice(2 * slot, 2 * slot + 2)
        assert np.array_equal(x[:, part], noised(x0[:, part], eps[:, part], levels[:, slot : slot + 1]))
    as_torch = noised(*(torch.from_numpy(t) for t in (x0, eps, levels)))
    assert np.allclose(as_torch.numpy(), x, atol=1e-6)


def test_equal_levels_in_all_slots_are_one_level() -> None:
    x0, eps = torch.randn(2, 6, 4, 4), torch.randn(2, 6, 4, 4)
    one = torch.tensor([[300.0], [801.0]])
    assert torch.equal(noised(x0, eps, one.expand(-1, 3)), noised(x0, eps, one))
    held = torch.tensor([[0.0, 500.0, 1000.0]]).expand(2, -1)
    x = noised(x0, eps, held)
    assert torch.equal(x[:, :2], x0[:, :2]) and torch.equal(x[:, 4:], eps[:, 4:])


# ---- network


def test_the_network_for_avatars_has_about_1_4_million_weights_nearly_all_of_them_in_matrices() -> None:
    net = UNet(3, 16, (2, 2, 2, 2, 2, 8, 11, 12))
    weights = dict(net.named_parameters())
    hidden = hidden_matrices(net)
    total = sum(w.numel() for w in weights.values())
    assert 1.3e6 < total < 1.5e6 and sum(weights[n].numel() for n in hidden) > 0.95 * total
    torch.optim.Muon([weights[n] for n in hidden])  # refuses what is not 2-D
    others = {n for n in weights if n not in hidden}
    assert {"first.weight", "last.weight", "told_first.weight", "conditions.0.weight"} <= others
    assert all(weights[n].ndim != 2 for n in others if "conditions" not in n and not n.startswith("told_first"))


@pytest.mark.parametrize(("size", "stride"), [(3, 1), (3, 2), (1, 1)])
def test_a_convolution_by_its_matrix_is_that_matrix_times_the_patches(size: int, stride: int) -> None:
    conv, x = Conv(4, 6, size, stride), torch.randn(2, 4, 8, 8)
    patches = F.unfold(x, size, padding=size // 2, stride=stride)
    written = (conv.weight @ patches + conv.bias[:, None]).reshape(2, 6, 8 // stride, 8 // stride)
    assert torch.allclose(conv(x), written, atol=1e-5)


def test_the_network_takes_a_level_a_slot_and_each_of_them_matters() -> None:
    net = lively(UNet(4, 8, (3,), slots=4, width=8))
    x, asked = torch.randn(2, 4, 8, 8), torch.tensor([[0], [3]])
    levels = torch.tensor([[0.0, 250, 500, 1000], [700, 700, 700, 700]])
    v = net(x, levels, asked)
    assert v.shape == x.shape
    for slot in range(4):
        other = levels.clone()
        other[:, slot] += 100 if slot < 3 else -100
        assert not torch.allclose(net(x, other, asked), v)


def test_a_condition_that_is_not_given_is_a_value_of_its_own_in_each_head() -> None:
    net = lively(UNet(1, 8, (3, 2), width=8))
    x, level = torch.randn(1, 1, 8, 8).expand(12, -1, -1, -1), torch.full((12, 1), 400.0)
    v = net(x, level, torch.tensor([[i, j] for i in range(4) for j in range(3)]))
    assert len({tuple(row.flatten().tolist()) for row in v}) == 12
    with pytest.raises(IndexError):
        net(x[:1], level[:1], torch.tensor([[4, 0]]))


def test_a_network_with_jumps_begins_as_if_it_were_told_none() -> None:
    net = lively(UNet(1, 8, (2,), width=8, jumps=True))
    x, level, asked = torch.randn(2, 1, 8, 8), torch.full((2, 1), 400.0), torch.zeros(2, 1, dtype=torch.int64)
    assert torch.equal(net(x, level, asked, torch.full((2, 1), 50.0)), net(x, level, asked, torch.full((2, 1), 400.0)))
    with pytest.raises(ValueError, match="jump"):
        net(x, level, asked)


@pytest.mark.parametrize(
    "wrong", [{"size": 7}, {"size": 4}, {"slots": 2}, {"width": 12}, {"heads": (0,)}, {"channels": 0}]
)
def test_a_network_that_cannot_be_built_says_the_rule(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="found"):
        UNet(**{"channels": 1, "size": 8, "heads": (2,), **wrong})  # type: ignore[arg-type]


def lively(net: UNet) -> UNet:
    """With a last layer that is not zero, so that everything is seen in the answer."""
    torch.manual_seed(0)
    for weights in net.last.parameters():
        torch.nn.init.normal_(weights, std=0.2)
    return net.eval()


# ---- samplers: tables against loops that are written out


def ddim(steps: int, first: float, clamp: float) -> np.ndarray:
    x, grid = start(), np.linspace(first, 0, steps + 1)
    for level, to in zip(grid[:-1], grid[1:], strict=True):
        x0, eps = guessed(x, level, clamp)
        x = np.sqrt(abar(to)) * x0 + np.sqrt(1 - abar(to)) * eps
    return x


def guessed(x: np.ndarray, level: float, clamp: float) -> tuple[np.ndarray, np.ndarray]:
    eps = eps_of(x, level)
    if level == 1000:  # x is noise alone: the mean of the asked mixture is the best guess
        means = (wanted()[ASKED[:, 0]] / wanted()[ASKED[:, 0]].sum(1, keepdims=True)) @ centres()
        return (means.clip(-clamp, clamp) if clamp else means).reshape(x.shape), x
    x0 = (x - np.sqrt(1 - abar(level)) * eps) / np.sqrt(abar(level))
    if clamp:
        x0 = x0.clip(-clamp, clamp)
        eps = (x - np.sqrt(abar(level)) * x0) / np.sqrt(1 - abar(level))
    return x0, eps


def ancestral(steps: int, first: float, clamp: float) -> np.ndarray:
    """Ho et al., 2020, eqs. 6 and 7: mean and variance of the step before, given both ends."""
    x, grid = start(), np.linspace(first, 0, steps + 1)
    for i, (level, to) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        x0, _ = guessed(x, level, clamp)
        alpha = 0.0 if level == 1000 else abar(level) / abar(to)
        variance = (1 - abar(to)) / (1 - abar(level)) * (1 - alpha)
        mean = np.sqrt(abar(to)) * (1 - alpha) / (1 - abar(level)) * x0 + np.sqrt(alpha) * (1 - abar(to)) / (1 - abar(level)) * x
        x = mean + np.sqrt(variance) * draw("normal", x.shape, SEED, 1, i)
    return x


def renoise(steps: int, first: float, clamp: float) -> np.ndarray:
    x, grid = start(), np.linspace(first, 0, steps + 1)
    for i, (level, to) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        x = np.sqrt(abar(to)) * guessed(x, level, clamp)[0] + np.sqrt(1 - abar(to)) * draw("normal", x.shape, SEED, 1, i)
    return x


@pytest.mark.parametrize("clamp", [0.0, 0.5])
@pytest.mark.parametrize("first", [1000.0, 900.0])
@pytest.mark.parametrize(("kind", "loop"), [("ddim", ddim), ("ancestral", ancestral), ("renoise", renoise)])
def test_a_table_of_single_steps_is_the_sampler_written_out(kind: str, loop: Callable[..., np.ndarray], first: float, clamp: float) -> None:
    found = made(Sampling(7, kind, first_level=first, clamp=clamp))  # type: ignore[arg-type]
    assert np.allclose(found, loop(7, first, clamp), atol=2e-5)


def s_pndm(steps: int, first: float, x: np.ndarray | None = None) -> np.ndarray:
    x, grid = start() if x is None else x, np.linspace(first, 0, steps + 1)
    past: list[np.ndarray] = []
    for level, to in zip(grid[:-1], grid[1:], strict=True):
        past.append(eps_of(x, level))
        first = len(past) == 1
        eps = (past[0] + eps_of(transfer(x, past[0], level, to), to)) / 2 if first else (3 * past[-1] - past[-2]) / 2
        x = transfer(x, eps, level, to)
    return x


def f_pndm(steps: int, first: float, x: np.ndarray | None = None) -> np.ndarray:
    x, grid = start() if x is None else x, np.linspace(first, 0, steps + 1)
    past: list[np.ndarray] = []
    for level, to in zip(grid[:-1], grid[1:], strict=True):
        past.append(eps_of(x, level))
        eps = runge_kutta(x, past[-1], level, to) if len(past) < 4 else of_the_past(past)
        x = transfer(x, eps, level, to)
    return x


def runge_kutta(x: np.ndarray, e1: np.ndarray, level: float | np.ndarray, to: float, grid: float | None = None) -> np.ndarray:
    """level: where x is taken to be; grid: where the plan says it is, from which the middle follows."""
    middle = ((np.max(level) if grid is None else grid) + to) / 2
    e2 = eps_of(transfer(x, e1, level, middle), middle)
    e3 = eps_of(transfer(x, e2, level, middle), middle)
    e4 = eps_of(transfer(x, e3, level, to), to)
    return np.asarray((e1 + 2 * e2 + 2 * e3 + e4) / 6)


def of_the_past(past: list[np.ndarray]) -> np.ndarray:
    return np.asarray((55 * past[-1] - 59 * past[-2] + 37 * past[-3] - 9 * past[-4]) / 24)


@pytest.mark.parametrize("steps", [5, 12])
@pytest.mark.parametrize(("kind", "loop"), [("s-pndm", s_pndm), ("f-pndm", f_pndm)])
def test_a_table_with_a_memory_is_the_multistep_sampler_written_out(kind: str, loop: Callable[..., np.ndarray], steps: int) -> None:
    found = made(Sampling(steps, kind, first_level=900, clamp=0))  # type: ignore[arg-type]
    assert np.allclose(found, loop(steps, 900), atol=2e-4)


@pytest.mark.parametrize(("kind", "loop", "more"), [("s-pndm", s_pndm, 2), ("f-pndm", f_pndm, 10)])
def test_a_multistep_sampler_begins_with_a_step_of_ddim(kind: str, loop: Callable[..., np.ndarray], more: int) -> None:
    """At level 1000 noise says nothing of the picture, and no division by a is possible."""
    sampling = Sampling(8, kind, clamp=0)  # type: ignore[arg-type]
    x0, _ = guessed(start(), 1000, 0)
    led = np.sqrt(abar(975)) * x0 + np.sqrt(1 - abar(975)) * start()
    assert sampling.calls == 8 + more
    assert np.allclose(made(sampling), loop(8, 975, led), atol=2e-4)


def test_methods_of_higher_order_come_closer_to_the_fine_solution() -> None:
    fine = f_pndm(400, 900)
    away = {
        kind: [np.sqrt(np.mean((made(Sampling(n, kind, first_level=900, clamp=0)) - fine) ** 2)) for n in (12, 24)]
        for kind in ("ddim", "s-pndm", "f-pndm")
    }
    assert 1.7 < away["ddim"][0] / away["ddim"][1] < 2.3  # first order
    assert 3 < away["s-pndm"][0] / away["s-pndm"][1] < 6  # second, as Liu et al. prove for both
    assert away["f-pndm"][1] < 0.2 * away["s-pndm"][1] < 0.05 * away["ddim"][1]


def test_guidance_is_two_calls_and_their_difference() -> None:
    x, grid = start(), np.linspace(1000, 0, 6)
    nothing = np.full_like(ASKED, 2)
    net = Mixture()
    for level, to in zip(grid[:-1], grid[1:], strict=True):
        levels = torch.full((len(x), 1), level, dtype=torch.float32)
        given, free = (
            net(torch.from_numpy(x.astype(np.float32)), levels, torch.from_numpy(asked)).double().numpy() for asked in (ASKED, nothing)
        )
        v = free + 1.5 * (given - free)
        a, b = np.sqrt(abar(level)), np.sqrt(1 - abar(level))
        x0 = (a * x - b * v).clip(-1, 1)
        x = np.sqrt(abar(to)) * x0 + np.sqrt(1 - abar(to)) * (x - a * x0) / b
    guided = made(Sampling(5, guidance=1.5))
    assert np.allclose(guided, x, atol=2e-5)
    plain = made(Sampling(5))
    assert np.abs(guided - plain)[ASKED[:, 0] != 2].max() > 0.01 and np.allclose(guided[2], plain[2], atol=1e-5)


def test_the_last_call_lands_on_the_clean_guess_exactly() -> None:
    for kind in ("ddim", "ancestral", "renoise"):
        sampling = Sampling(1, kind, first_level=600)
        x, level = torch.from_numpy(start().astype(np.float32)), torch.full((len(ASKED), 1), 600.0)
        v = Mixture()(x, level, torch.from_numpy(ASKED))
        a, b = (torch.from_numpy(rows(sampling)["coefficients"])[0, i] for i in (0, 1))
        assert np.array_equal(made(sampling), (a * x - b * v).clamp(-1, 1).numpy())


def test_a_shortcut_network_is_told_how_far_each_step_goes() -> None:
    net = lively(UNet(1, 8, (2,), width=8, jumps=True))
    torch.nn.init.normal_(net.jump_second.weight, std=0.3)
    asked, sampling = torch.zeros(2, 1, dtype=torch.int64), Sampling(3, "shortcut", clamp=0)
    x, grid = torch.from_numpy(draw("normal", (2, 1, 8, 8), SEED, 0)), np.linspace(1000, 0, 4)
    with torch.no_grad():
        for level, to in zip(grid[:-1], grid[1:], strict=True):
            levels, jump = torch.full((2, 1), level, dtype=torch.float32), torch.full((2, 1), level - to, dtype=torch.float32)
            v, lands = net(x, levels, asked, jump), torch.full((2, 1), to, dtype=torch.float32)
            x = noised(clean(x, v, levels), added(x, v, levels), lands)
    assert torch.allclose(sample(net, sampling, asked, SEED), x, atol=1e-5)
    with pytest.raises(ValueError, match="belong together"):
        Step(net, Sampling(3))


# ---- shifted time


def best(x: np.ndarray, around: float, window: int) -> np.ndarray:
    """The level of each sample by a search in plain Python."""
    found = []
    for one in x:
        variance = statistics.variance(one.flatten().tolist())
        near = [around + d for d in range(-(window // 2), window // 2 + 1) if 1 <= around + d <= 999]
        found.append(min(near, key=lambda level: abs(variance - float(1 - abar(level).item()))))
    return np.array(found)


def ddim_paper(steps: int, first: float, window: int, cutoff: float) -> np.ndarray:
    x, grid = start(), np.linspace(first, 0, steps + 1)
    level = np.full(len(x), grid[0])
    for to in grid[1:]:
        x = transfer(x, eps_of(x, level), level, to)
        level = best(x, to, window) if to > cutoff else np.full(len(x), to)
    return x


def ddim_landing(steps: int, first: float, window: int, cutoff: float) -> np.ndarray:
    x, grid = start(), np.linspace(first, 0, steps + 1)
    for i, (level, to) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        x = transfer(x, eps_of(x, level), level, best(x, to, window) if i and to > cutoff else to)
    return x


def f_pndm_shifted(steps: int, first: float, window: int, cutoff: float, mode: str) -> np.ndarray:
    """paper: the step begins at the level found, and inside a warm-up step only there; landing: it ends at the level found."""
    x, grid = start(), np.linspace(first, 0, steps + 1)
    past: list[np.ndarray] = []
    found: float | np.ndarray = grid[0]
    for level, to in zip(grid[:-1], grid[1:], strict=True):
        at: float | np.ndarray = found if mode == "paper" else level
        lands = best(x, to, window) if mode == "landing" and past and to > cutoff else to
        past.append(eps_of(x, at))
        eps = runge_kutta(x, past[-1], at, to, level) if len(past) < 4 else of_the_past(past)
        x = transfer(x, eps, at, lands)
        found = best(x, to, window) if to > cutoff else to
    return x


def f_paper(*plan: float) -> np.ndarray:
    return f_pndm_shifted(*plan, mode="paper")  # type: ignore[arg-type]


def f_landing(*plan: float) -> np.ndarray:
    return f_pndm_shifted(*plan, mode="landing")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "shift", "loop"),
    [("ddim", "paper", ddim_paper), ("ddim", "landing", ddim_landing), ("f-pndm", "paper", f_paper), ("f-pndm", "landing", f_landing)],
)
def test_the_shift_decided_in_the_graph_is_the_one_found_by_a_plain_search(kind: str, shift: str, loop: Callable[..., np.ndarray]) -> None:
    sampling = Sampling(8, kind, first_level=900, clamp=0, shift=shift, window=60, cutoff=400)  # type: ignore[arg-type]
    found, written = made(sampling), loop(8, 900, 60, 400)
    assert np.allclose(found, written, atol=5e-4)
    plain = made(Sampling(8, kind, first_level=900, clamp=0))  # type: ignore[arg-type]
    assert np.abs(plain - written).max() > 0.01


@pytest.mark.parametrize("shift", ["paper", "landing"])
@pytest.mark.parametrize("kind", ["ddim", "s-pndm", "f-pndm"])
def test_a_window_of_nothing_and_a_cutoff_above_all_change_no_bit(kind: str, shift: str) -> None:
    plain = made(Sampling(6, kind))  # type: ignore[arg-type]
    assert np.array_equal(made(Sampling(6, kind, shift=shift)), plain)  # type: ignore[arg-type]
    assert np.array_equal(made(Sampling(6, kind, shift=shift, window=40, cutoff=1000)), plain)  # type: ignore[arg-type]
    assert not np.array_equal(made(Sampling(6, kind, shift=shift, window=40)), plain)  # type: ignore[arg-type]


def test_a_control_may_give_each_sample_the_shift_of_another() -> None:
    sampling, order = Sampling(6, shift="landing", window=40), torch.tensor([1, 0, 2, 3, 4])
    net, asked = Mixture(), torch.from_numpy(ASKED)
    calls: list[list[int]] = []

    def crossed(x: Tensor, noises: Tensor) -> Tensor:
        calls.append(nearest(x, noises).tolist())
        return nearest(x, noises)[order]

    found = sample(net, sampling, asked, SEED, crossed)  # type: ignore[arg-type]
    assert len(calls) == 6 and any(c[0] != c[1] for c in calls) and calls[0] == [0] * 5
    moved = np.abs(found.numpy() - made(sampling)).max((1, 2, 3)) > 0
    assert moved[:2].all() and not moved[2:].any()


def test_a_path_begins_with_the_noise_and_ends_with_the_picture() -> None:
    every = list(path(Mixture(), Sampling(4, "renoise"), torch.from_numpy(ASKED), SEED))  # type: ignore[arg-type]
    assert len(every) == 5 and np.array_equal(every[0].numpy(), start().astype(np.float32))
    assert np.array_equal(every[-1].numpy(), made(Sampling(4, "renoise")))


# ---- plans


@pytest.mark.parametrize(("kind", "calls"), [("ddim", 10), ("s-pndm", 12), ("f-pndm", 20), ("renoise", 10)])
def test_every_table_has_a_row_a_call(kind: str, calls: int) -> None:
    sampling = Sampling(10, kind)  # type: ignore[arg-type]
    tables = rows(sampling)
    assert sampling.calls == calls and {len(t) for t in tables.values()} == {calls}
    assert tables["coefficients"].shape[1] == len(columns(sampling)) and {t.dtype for t in tables.values()} == {np.dtype("float32")}


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0}, {"kind": "euler"}, {"kind": "f-pndm", "steps": 3}, {"kind": "s-pndm", "first_level": 1000.0}, {"guidance": -1.0},
        {"kind": "renoise", "shift": "paper"}, {"window": 10}, {"shift": "half"}, {"first_level": 1200.0}, {"shift": "paper", "window": -2},
    ],
)  # fmt: skip
def test_a_sampler_that_cannot_be_says_the_rule_and_the_value(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="found"):
        Sampling(**{"steps": 4, **wrong})  # type: ignore[arg-type]


# ---- deployed

EXPORTED = {
    "plain": Sampling(6),
    "no window": Sampling(6, shift="paper"),
    "no landing": Sampling(6, shift="landing"),
    "multistep": Sampling(5, "f-pndm"),
    "multistep, no window": Sampling(5, "f-pndm", shift="paper"),
    "drawn": Sampling(4, "ancestral", guidance=1.5),
    "shifted": Sampling(6, "f-pndm", shift="paper", window=40, cutoff=300),
    "landing": Sampling(6, "s-pndm", shift="landing", window=40, cutoff=300),
}


def trained(net: torch.nn.Module, sampling: Sampling, asked: tuple[np.ndarray, ...] = (ASKED, ASKED[:2])) -> Own:
    """A sampler as the exporters see it."""
    signature, graph, program, tables = describe(net, sampling)  # type: ignore[arg-type]
    return Own(
        name="sampler", sha256="0" * 64, signature=signature, program=program, graphs={"main": graph}, tensors=tables,
        allowed=Allowed({IMAGE: ALLOWED_MAX_ABS}), golden_note=GoldenNote("torch", "written"),
        answers=tuple(goldens(net, sampling, asked)), torch_module=Step(net, sampling).eval(), torch_sizes={"batch": 3},  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Bundle]:
    """name -> ONNX bundle, made when first asked for."""
    folder, onnx = tmp_path_factory.mktemp("samplers"), registry.find(Exporter, "onnx")
    return lambda name: onnx.export(trained(Mixture().eval(), EXPORTED[name]), folder / name.replace(" ", "_").replace(",", ""), onnx.options)


def engine(name: str) -> Runtime:
    part = registry.load(Runtime, name)
    if part.ready():
        pytest.skip(part.ready())
    return part


@pytest.mark.parametrize("name", ["onnxruntime", "openvino", "cpp"])
@pytest.mark.parametrize("sampler", ["plain", "drawn", "shifted", "landing"])
def test_every_engine_makes_the_pictures_of_the_loop_in_torch(
    bundles: Callable[[str], Bundle], tmp_path: Path, sampler: str, name: str
) -> None:
    bundle = bundles(sampler)
    if name == "openvino":
        bundle = registry.find(Exporter, "openvino").export(bundle, tmp_path / "openvino", {})
    found = verify.verify(bundle, engine(name))
    assert found.passed, found.failures
    with engine(name).open(bundle) as session:
        for seed in (SEED, 2**63):
            pictures = session.run({"condition": ASKED}, seed)[IMAGE]
            assert np.abs(pictures - made(EXPORTED[sampler], seed)).max() < ALLOWED_MAX_ABS
        assert np.abs(session.run({"condition": ASKED}, 1)[IMAGE] - pictures).max() > 0.1


@pytest.mark.parametrize("name", ["onnxruntime", "cpp"])
@pytest.mark.parametrize(("as_it_is", "sampler"), [("plain", "no window"), ("plain", "no landing"), ("multistep", "multistep, no window")])
def test_no_window_changes_no_bit_in_an_engine(bundles: Callable[[str], Bundle], as_it_is: str, sampler: str, name: str) -> None:
    with engine(name).open(bundles(as_it_is)) as plain, engine(name).open(bundles(sampler)) as shifted:
        assert np.array_equal(plain.run({"condition": ASKED}, SEED)[IMAGE], shifted.run({"condition": ASKED}, SEED)[IMAGE])


@pytest.mark.parametrize("sampler", ["plain", "drawn"])
def test_a_short_loop_fused_into_one_graph_makes_the_same_pictures(bundles: Callable[[str], Bundle], tmp_path: Path, sampler: str) -> None:
    loop = bundles(sampler)
    fused = registry.find(Exporter, "fused").export(loop, tmp_path / "fused", {})
    found = verify.verify(fused, engine("onnxruntime"))
    assert found.passed and fused.manifest.program.runs_once, found.failures
    with engine("onnxruntime").open(loop) as one, engine("onnxruntime").open(fused) as other:
        assert np.allclose(one.run({"condition": ASKED}, 5)[IMAGE], other.run({"condition": ASKED}, 5)[IMAGE], atol=1e-5)


def test_the_network_itself_is_deployed_for_any_number_of_pictures(tmp_path: Path) -> None:
    net, onnx = lively(UNet(1, 8, (3, 2), width=8)), registry.find(Exporter, "onnx")
    asked = np.array([[0, 1], [3, 2], [2, 0]], np.int64)
    bundle = onnx.export(trained(net, Sampling(3, "renoise", guidance=1.5), (asked, asked[:1])), tmp_path / "onnx", onnx.options)
    for name in ("onnxruntime", "cpp"):
        found = verify.verify(bundle, engine(name))
        assert found.passed, found.failures
    openvino = registry.find(Exporter, "openvino").export(bundle, tmp_path / "openvino", {})
    found = verify.verify(openvino, engine("openvino"))
    assert found.passed, found.failures


def test_a_network_without_conditions_is_not_deployed() -> None:
    with pytest.raises(EdgekitError, match="condition"):
        describe(UNet(1, 8, (), width=8), Sampling(2))


def test_all_kinds_have_a_step_whose_inputs_fit_the_program() -> None:
    for kind in KINDS:
        net = UNet(1, 8, (2,), width=8, jumps=kind == "shortcut")
        signature, graph, program, tables = describe(net, Sampling(4, kind))
        phase = program.phases[0]
        assert [t.name for t in graph.inputs] == list(Step(net, Sampling(4, kind)).inputs) and set(tables) == program.tensors
        assert [t.name for t in signature.outputs] == [IMAGE] and phase.steps == Sampling(4, kind).calls  # type: ignore[union-attr]
