"""TensorRT on a real GPU; and, where there is none, that everything says so in one sentence."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from tensorrt_models import conv_net, save

from edgekit import flow, registry, tensorrt_native, verify
from edgekit.bundle import Bundle
from edgekit.errors import Broken, EdgekitError, Missing
from edgekit.parts import Runtime
from edgekit.registry import missing_modules


@pytest.fixture
def parent(tmp_path: Path) -> Bundle:
    return flow.export(str(save(conv_net(), tmp_path / "net.onnx")), "onnx", tmp_path / "onnx")


@pytest.fixture
def gpu() -> tensorrt_native.Gpu:
    found = tensorrt_native.gpu()
    if isinstance(found, str):
        pytest.skip(f"no gpu: {found}")
    return found


@pytest.mark.gpu
def test_a_plan_is_built_here_and_gives_the_same_answers(gpu: tensorrt_native.Gpu, parent: Bundle, tmp_path: Path):
    if missing_modules(("tensorrt",)):
        pytest.skip("no gpu library: tensorrt is not installed on this machine, though it has a GPU")
    made = flow.export(parent.folder, "tensorrt:f32", tmp_path / "made")
    assert made.manifest.details["status"] == "built"
    with registry.find(Runtime, "tensorrt").open(made) as session:
        assert verify.compare(made, made.golden(), session.run(made.golden().inputs))["output_max_abs"] <= 1e-4


@pytest.mark.gpu
def test_an_rtx_plan_runs_on_its_gpu(gpu: tensorrt_native.Gpu, parent: Bundle, tmp_path: Path):
    if missing_modules(("tensorrt_rtx",)):
        pytest.skip("no gpu library: tensorrt-rtx is not installed on this machine, though it has a GPU")
    made = flow.export(parent.folder, "tensorrt-rtx", tmp_path / "made", chosen={"compute_capabilities": [gpu.compute_capability]})
    with registry.find(Runtime, "tensorrt").open(made) as session:
        assert verify.compare(made, made.golden(), session.run(made.golden().inputs))["output_max_abs"] <= 1e-4


def test_where_there_is_no_gpu_export_says_what_else_there_is(parent: Bundle, tmp_path: Path):
    if not tensorrt_native.why_not("tensorrt"):
        pytest.skip("no gpu is what this test is about, and here one works")
    with pytest.raises(Missing, match=r"a TensorRT plan was asked for, but .*; export on the device itself, or ask for --format tensorrt-kit"):
        flow.export(parent.folder, "tensorrt:f32", tmp_path / "made")


def test_the_runtime_says_why_it_is_not_ready_and_is_not_needed():
    part = registry.load(Runtime, "tensorrt")
    assert part.optional
    if tensorrt_native.why_not("tensorrt") and tensorrt_native.why_not("tensorrt_rtx"):
        assert "its graph is checked by the runtime tensorrt_onnx" in part.ready()


def test_a_kit_holds_no_plan_that_could_be_run(parent: Bundle, tmp_path: Path):
    kit = flow.export(parent.folder, "tensorrt-kit", tmp_path / "kit")
    with pytest.raises(EdgekitError, match="holds no TensorRT plan .its status is 'planned'"), registry.load(Runtime, "tensorrt").open(kit):
        pass


def test_a_plan_whose_bytes_are_not_the_manifests_is_never_opened(parent: Bundle, tmp_path: Path):
    """The check itself, on a bundle whose plan was swapped after it was opened; no GPU is needed to refuse."""
    kit = flow.export(parent.folder, "tensorrt-kit", tmp_path / "kit")
    plan = kit.folder / "main.plan"
    plan.write_bytes(b"other code")
    details = {"status": "built", "graphs": {"main": {"plans": {"8.6": plan.name}}}}
    files = {**kit.manifest.files, plan.name: "0" * 64}
    swapped = dataclasses.replace(kit, manifest=dataclasses.replace(kit.manifest, details=details, files=files))
    find_plan = __import__("sys").modules[type(registry.load(Runtime, "tensorrt")).__module__]._plan
    with pytest.raises(Broken, match="is not the plan that its bundle names"):
        find_plan(swapped, "main", tensorrt_native.Gpu("a GPU", "8.6"))
    with pytest.raises(EdgekitError, match=r"has plans for compute capability 8.6, but this GPU \(a GPU\) has 9.0"):
        find_plan(swapped, "main", tensorrt_native.Gpu("a GPU", "9.0"))
