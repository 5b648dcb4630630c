"""A few-step sampler as a program: one denoiser graph, eight steps, table rows for levels and coefficients, noise by place.

    python examples/diffusion_loop.py OUT

The denoiser is exact: data are points on a ring of eight Gaussians, whose noise prediction has a closed form. Each sample
has four slots with levels of their own; slot 0 is given by the caller and held, the others are drawn. Every sampler that is
affine between two network calls has this form: x <- A x0 + B x + C z, one row of A, B, C a step.
"""

from __future__ import annotations

import hashlib
import math
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor as Torch

from edgekit import files, registry
from edgekit.bundle import Allowed, Bundle, Golden, GoldenNote
from edgekit.intake import Own
from edgekit.noise import draw
from edgekit.parts import Exporter
from edgekit.program import Affine, Clamp, Phase, Program, Source, State, Term, noise, row, value
from edgekit.signature import Signature, Tensor

STEPS, SLOTS, MODES, SPREAD = 8, 4, 8, 0.05


class RingDenoiser(torch.nn.Module):
    """eps(x, level) of a mixture of Gaussians on the unit circle; level is sqrt(1 - abar), 0 for clean slots."""

    def __init__(self) -> None:
        super().__init__()
        angle = torch.arange(MODES) * (2 * math.pi / MODES)
        self.register_buffer("centres", torch.stack([angle.cos(), angle.sin()], 1))

    def forward(self, x: Torch, level: Torch) -> Torch:
        """float32 (N, SLOTS, 2) and (SLOTS,) -> float32 (N, SLOTS, 2)."""
        sigma = level[:, None].clamp(min=1e-3)
        keep = (1 - sigma**2).sqrt()
        variance = keep**2 * SPREAD**2 + sigma**2
        gap = x[:, :, None, :] - keep[:, None] * self.centres  # (N, SLOTS, MODES, 2)
        weight = torch.softmax(-(gap**2).sum(-1) / (2 * variance), -1)
        return sigma / variance * (weight[..., None] * gap).sum(2)


def tables() -> dict[str, np.ndarray]:
    """Rows of eight ancestral steps (DDPM, eta 1) over abar from 0.02 to 1; slot 0 stays as it is."""
    abar = np.append(np.linspace(0.02, 0.98, STEPS), 1.0)
    now, then = abar[:-1], abar[1:]
    sigma = np.sqrt((1 - then) / (1 - now) * (1 - now / then))
    toward = np.sqrt(1 - then - sigma**2)

    def rows(free: np.ndarray, held: float) -> np.ndarray:
        table = np.repeat(free[:, None, None], SLOTS, 1)
        table[:, 0] = held
        return table.astype(np.float32)

    return {
        "level": rows(np.sqrt(1 - now), 0.0)[..., 0],
        "x_to_x0": rows(1 / np.sqrt(now), 1.0),
        "eps_to_x0": rows(-np.sqrt(1 - now) / np.sqrt(now), 0.0),
        "x0_to_x": rows(np.sqrt(then) - toward * np.sqrt(now) / np.sqrt(1 - now), 0.0),
        "x_to_x": rows(toward / np.sqrt(1 - now), 1.0),
        "z_to_x": rows(sigma, 0.0),
        "free": np.concatenate([[[0.0]], np.ones((SLOTS - 1, 1))]).astype(np.float32),
        "held": np.concatenate([[[1.0]], np.zeros((SLOTS - 1, 1))]).astype(np.float32),
    }


def program() -> Program:
    """Noise at first, the given slot put in, then eight denoising steps."""
    shape: tuple[int | str, ...] = ("batch", SLOTS, 2)
    start = Affine((Term(noise(0), Source("tensor", "free")), Term(value("given"), Source("tensor", "held"))), "x_start")
    to_x0 = Affine((Term(value("x"), row("x_to_x0")), Term(value("eps"), row("eps_to_x0"))), "x0")
    to_x = Affine((Term(value("x0c"), row("x0_to_x")), Term(value("x"), row("x_to_x")), Term(noise(1), row("z_to_x"))), "x")
    first = Phase("clock", inputs={"given": value("given")}, outputs={"given_again": "unused"}, epilogue=(start,))
    loop = Phase(
        "main", "steps", STEPS, inputs={"x": value("x"), "level": row("level")}, outputs={"eps": "eps"},
        states={"x": State("float32", shape, value("x_start"))}, epilogue=(to_x0, Clamp(value("x0"), -1.5, 1.5, "x0c"), to_x),
        collect={"path": "x"},
    )  # fmt: skip
    return Program((first, loop), seed=2026)


class Identity(torch.nn.Module):
    """The first phase has no network: its graph hands its input on."""

    def forward(self, given: Torch) -> Torch:
        """The same array."""
        return given * 1.0


def eager(given: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """The sampler in plain numpy around the torch module: the golden answers."""
    net, t = RingDenoiser().eval(), tables()
    x = draw("normal", given.shape, seed, 0) * t["free"] + given * t["held"]
    path = []
    for i in range(STEPS):
        with torch.no_grad():
            eps = net(torch.from_numpy(x), torch.from_numpy(t["level"][i])).numpy()
        x0 = np.clip(x * t["x_to_x0"][i] + eps * t["eps_to_x0"][i], np.float32(-1.5), np.float32(1.5))
        x = x0 * t["x0_to_x"][i] + x * t["x_to_x"][i] + draw("normal", given.shape, seed, 1, i) * t["z_to_x"][i]
        path.append(x)
    return {"x": x, "path": np.stack(path)}


def export(out: Path) -> Bundle:
    """The bundle of the sampler, with golden answers for 64 samples and for 3."""
    whole = Signature(
        (Tensor("given", "float32", ("batch", SLOTS, 2), "points; slot 0 is held, the others are not looked at"),),
        (Tensor("x", "float32", ("batch", SLOTS, 2), "points"), Tensor("path", "float32", (STEPS, "batch", SLOTS, 2), "after each step")),
    )
    points, level = Tensor("x", "float32", ("batch", SLOTS, 2)), Tensor("level", "float32", (SLOTS,))
    graphs = {
        "clock": Signature((Tensor("given", "float32", ("batch", SLOTS, 2)),), (Tensor("given_again", "float32", ("batch", SLOTS, 2)),)),
        "main": Signature((points, level), (Tensor("eps", "float32", ("batch", SLOTS, 2)),)),
    }
    rng = np.random.default_rng(0)
    goldens = []
    for count in (64, 3):
        given = rng.uniform(-1, 1, (count, SLOTS, 2)).astype(np.float32)
        goldens.append(Golden({"given": given}, eager(given, program().seed)))
    modules = {"clock": Identity(), "main": RingDenoiser()}

    class Sampler(Own):
        def module(self, graph: str = "main") -> torch.nn.Module:
            return modules[graph].eval()

    sampler = Sampler(
        name="diffusion_loop", sha256=hashlib.sha256(Path(__file__).read_bytes()).hexdigest(), signature=whole,
        program=program(), graphs=graphs, tensors=tables(), allowed=Allowed({"x": 1e-5, "path": 1e-5}),
        golden_note=GoldenNote("torch and numpy, step by step", "drawn with seed 0"), answers=tuple(goldens),
    )  # fmt: skip
    exporter = registry.find(Exporter, "onnx")
    return exporter.export(sampler, out, exporter.options)


if __name__ == "__main__":
    made = export(Path(sys.argv[1] if len(sys.argv) > 1 else "diffusion_loop"))
    print(f"{made.label} bundle: {made.folder}; {files.sha256_of(made.folder / 'bundle.json')[:12]}")
