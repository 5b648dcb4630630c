"""The Python face and `edgekit run`: the same answers as the command line's verbs, in few words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import edgekit
from edgekit.errors import EdgekitError


class Leaky(torch.nn.Module):
    """v <- v / 2 + x, kept in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("v", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """float32 (3,) -> the membrane afterwards."""
        self.v.mul_(0.5).add_(x)
        return self.v.clone()


def expected(x: np.ndarray) -> np.ndarray:
    v, found = np.zeros(3, np.float32), []
    for row in x:
        v = v / 2 + row
        found.append(v)
    return np.stack(found)


def test_a_module_is_exported_opened_pushed_and_run(tmp_path: Path):
    made = edgekit.export(Leaky(), (torch.zeros(3),), out=tmp_path / "b")
    assert made.manifest.program.stream is not None
    x = np.random.default_rng(0).normal(size=(7, 3)).astype(np.float32)
    with edgekit.open(tmp_path / "b") as opened:
        np.testing.assert_allclose(opened.run(x=x)["output"], expected(x), atol=1e-6)
        opened.begin()
        parts = [opened.push(x=x[a:b])["output"] for a, b in ((0, 2), (2, 3), (3, 7))]
        assert opened.close_stream()["output"].shape == (0, 3)
        np.testing.assert_allclose(np.concatenate(parts), expected(x), atol=1e-6)
    with pytest.raises(EdgekitError, match="known are: states, chunks"):
        edgekit.export(Leaky(), (torch.zeros(3),), out=tmp_path / "c", sideways=1)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        edgekit.nothing  # noqa: B018


def test_run_reads_and_writes_arrays(tmp_path: Path):
    edgekit.export(Leaky(), (torch.zeros(3),), out=tmp_path / "b")
    x = np.ones((4, 3), np.float32)
    np.savez(tmp_path / "x.npz", x=x)

    def call(*arguments: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "edgekit", "run", *map(str, arguments)], capture_output=True, text=True, check=False)

    done = call(tmp_path / "b", "--input", tmp_path / "x.npz", "--output", tmp_path / "y.npz", "--runtime", "openvino")
    assert done.returncode == 0, done.stderr
    with np.load(tmp_path / "y.npz") as found:
        np.testing.assert_allclose(found["output"], expected(x), atol=1e-6)
    (tmp_path / "bad.npz").write_bytes(b"no archive")
    for wrong, says in (("bad.npz", "is no .npz"), ("none.npz", "is no .npz")):
        failed = call(tmp_path / "b", "--input", tmp_path / wrong)
        assert failed.returncode == 2 and says in failed.stderr
