"""AOTInductor on this processor, for real; on an NVIDIA GPU where there is one."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from edgekit import examine, flow
from edgekit.bundle import Bundle, new_bundle, open_bundle
from edgekit.errors import EdgekitError, Missing
from edgekit.intake import Wishes
from edgekit.process_run import Request


@pytest.fixture(scope="module")
def stateful(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """A spiking network of four steps, whose membranes go in and out of the package."""
    out = tmp_path_factory.mktemp("aoti") / "b"
    return flow.export(small_run / "train" / "t4", "aotinductor", out, chosen={"device": "cpu"})


def test_a_loop_over_a_compiled_step_gives_the_trained_answers(stateful: Bundle):
    found = examine.verify(stateful, "aotinductor")
    assert found.passed and found.output_max_abs is not None and found.output_max_abs <= 1e-5, found.failures
    assert found.score == found.score_reference and stateful.manifest.details["device"] == "cpu"
    assert examine.profile(stateful, Request("aotinductor", seconds=0.05, processes=1)).latency_p50_ms > 0


def test_any_batch_runs_and_bound_buffers_give_the_same(stateful: Bundle):
    images = stateful.golden().inputs["image"]
    with examine.runtime_of(stateful, "aotinductor").open(stateful) as session:
        whole = session.run({"image": images})["logits"]
        parts = [session.run({"image": images[i : i + 1]})["logits"] for i in range(4)]
    np.testing.assert_allclose(np.concatenate(parts), whole[:4], atol=1e-5)


def test_a_package_of_another_torch_or_device_is_not_opened(stateful: Bundle, tmp_path: Path):
    another = {"processor": "aarch64 SVE256"}
    for details, says in (({"torch": "1.0"}, "was compiled by torch 1.0"), ({"device": "cuda", "gpu": "Orin"}, "was compiled for Orin"),
                          (another, r"was compiled for aarch64 SVE256, here is")):
        import torch

        if "device" in details and torch.cuda.is_available():
            continue
        manifest = dataclasses.replace(stateful.manifest, details={**stateful.manifest.details, **details}, files={})
        with new_bundle(tmp_path / says[:20], manifest, stateful.goldens(), stateful.tensors()) as draft:
            (draft / "main.pt2").write_bytes(stateful.graph().read_bytes())
        with pytest.raises(Missing, match=says):
            examine.verify(open_bundle(tmp_path / says[:20]), "aotinductor")


def test_a_package_from_elsewhere_needs_a_word(stateful: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))  # as of another account or machine, which has not made it
    with pytest.raises(EdgekitError, match="holds machine code .aotinductor. that was not made here.*--trust"):
        examine.verify(stateful, "aotinductor")
    monkeypatch.setenv("EDGEKIT_TRUST", "1")
    assert examine.verify(stateful, "aotinductor").passed


def test_a_changed_package_is_never_loaded(stateful: Bundle, tmp_path: Path):
    import shutil

    folder = Path(shutil.copytree(stateful.folder, tmp_path / "b"))
    with (folder / "main.pt2").open("ab") as file:
        file.write(b"x")
    with pytest.raises(EdgekitError, match=r"main\.pt2 was changed after the bundle was made"):
        open_bundle(folder)


@pytest.mark.parametrize(("device", "says"), [("tpu", "device 'tpu' is none"), ("cuda", "torch finds no NVIDIA GPU here")])
def test_a_device_that_is_not_there_is_one_sentence(small_run: Path, tmp_path: Path, device: str, says: str):
    import torch

    if device == "cuda" and torch.cuda.is_available():
        return
    with pytest.raises(EdgekitError, match=says):
        flow.export(small_run / "train" / "t1", "aotinductor", tmp_path / "b", chosen={"device": device})


def test_an_onnx_file_is_refused(tmp_path: Path):
    from onnx import TensorProto, helper

    values = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [2])] for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", *values)
    (tmp_path / "m.onnx").write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8).SerializeToString())
    with pytest.raises(EdgekitError, match="came as an ONNX file; aotinductor compiles torch models"):
        flow.export(str(tmp_path / "m.onnx"), "aotinductor", tmp_path / "b", Wishes())


@pytest.mark.gpu
def test_on_a_gpu_the_answers_are_the_same(small_run: Path, tmp_path: Path):
    import torch

    if not torch.cuda.is_available():
        pytest.skip("no gpu: torch finds none")
    made = flow.export(small_run / "train" / "t4", "aotinductor", tmp_path / "b", chosen={"device": "cuda"})
    found = examine.verify(made, "aotinductor")
    assert made.manifest.details["gpu"] and found.passed, found.failures
