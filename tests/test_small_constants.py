"""Small numbers that keep a division from 0 / 0 stay in a graph that is optimised; against torch, at the very inputs where they matter."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from edgekit.small_constants import keep_small_constants


class Guarded(torch.nn.Module):
    """A cosine that is 0 where nothing is heard, and numbers near 0 and 1 in each place."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cosine = (x * y).sum(1, keepdim=True) / ((x * x).sum(1, keepdim=True) * (y * y).sum(1, keepdim=True) + 1e-12).sqrt()
        return cosine, 1 / (x - 1e-9), 3e-9 + y, x * 1.000003, y / 0.999997, x * 1.0 + 0.0


@torch.no_grad()
def unoptimised(module: torch.nn.Module, example: tuple[torch.Tensor, ...]) -> torch.onnx.ONNXProgram:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of its own calls
        program = torch.onnx.export(torch.export.export(module, example), example, dynamo=True, opset_version=18, optimize=False, verbose=False)
    assert program is not None
    return program


def exported(keep: bool) -> tuple[onnx.ModelProto, int]:
    example = (torch.zeros(2, 3), torch.zeros(2, 3))
    program = unoptimised(Guarded(), example)
    kept = keep_small_constants(program.model) if keep else 0
    program.optimize()
    return program.model_proto, kept


def answers(model: onnx.ModelProto, *inputs: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {i.name: v for i, v in zip(session.get_inputs(), inputs, strict=True)})


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1.0])
def test_small_numbers_stay_where_they_matter(scale: float) -> None:
    model, kept = exported(keep=True)
    assert kept == 5  # and x * 1 + 0 is still dropped
    given = [np.random.default_rng(i).standard_normal((2, 3)).astype(np.float32) * np.float32(scale) for i in range(2)]
    for found, wanted in zip(answers(model, *given), Guarded()(*map(torch.from_numpy, given)), strict=True):
        assert found == pytest.approx(wanted.numpy(), rel=1e-6, abs=1e-30)


def test_without_it_the_optimiser_drops_them() -> None:
    """What this file is for. When it fails, the optimiser has learned better and the pass can go."""
    model, _ = exported(keep=False)
    silence = np.zeros((2, 3), np.float32)
    assert np.isnan(answers(model, silence, silence)[0]).all()


def test_scalars_keep_their_shape() -> None:
    """One element would give a result without dimensions another shape: such a sum is left as it is."""

    class Scalar(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum() + 1e-9

    example = (torch.zeros(3),)
    program = unoptimised(Scalar(), example)
    assert keep_small_constants(program.model) == 0
    program.optimize()
    assert answers(program.model_proto, np.ones(3, np.float32))[0].shape == ()
