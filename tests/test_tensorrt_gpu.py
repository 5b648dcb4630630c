"""TensorRT on a real GPU; and, where there is none, that everything says so in one sentence."""

from __future__ import annotations

import dataclasses
import hashlib
import sys
import types
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


BUILT = {"status": "built", "library": "tensorrt", "engine": "TensorRT 10.3.0", "gpu": "NVIDIA Orin", "graphs": {"main": {"plans": {"8.7": "main.plan"}}}}


@pytest.mark.parametrize(
    ("details", "here", "says"),
    [
        ({}, ("10.3.0.26", "NVIDIA Orin", "8.7"), ""),
        ({}, ("10.7.0", "NVIDIA Orin", "8.7"), "was built by TensorRT 10.3.0, here is TensorRT 10.7.0"),
        ({}, ("10.3.1", "NVIDIA Orin", "8.7"), "was built by TensorRT 10.3.0, here is TensorRT 10.3.1"),
        ({}, ("10.3.0", "NVIDIA Thor", "11.0"), "was built on NVIDIA Orin, this GPU is NVIDIA Thor"),
        ({}, ("10.3.0", "NVIDIA Orin", "8.6"), "has plans for compute capability 8.7, but this GPU .NVIDIA Orin. has 8.6"),
        ({"engine": "TensorRT-RTX 10.3.0"}, ("10.3.0", "NVIDIA Orin", "8.7"), "was built by TensorRT-RTX 10.3.0"),
        ({"engine": "\x1b[2J"}, ("10.3.0", "NVIDIA Orin", "8.7"), r"was built by \\x1b\[2J"),
        ({"graphs": {"main": {"plans": {"8.7": "../else/main.plan"}}}}, ("10.3.0", "NVIDIA Orin", "8.7"), "is not the plan that its bundle names"),
    ],
)  # fmt: skip
def test_47_a_plan_of_another_machine_is_refused_before_it_is_read(
    details: dict[str, object], here: tuple[str, str, str], says: str, parent: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """What the manifest says of it is asked first: a library that fails here if it is given the plan stands for TensorRT."""
    number, name, capability = here
    kit = flow.export(parent.folder, "tensorrt-kit", tmp_path / "kit")
    (kit.folder / "main.plan").write_bytes(b"plan")
    files = {**kit.manifest.files, "main.plan": hashlib.sha256(b"plan").hexdigest()}
    told = {**BUILT, **details}
    made = dataclasses.replace(kit, manifest=dataclasses.replace(kit.manifest, details=told, files=files, variant=""))

    class Opened(Exception):
        """The library was given the plan."""

    class Library(types.ModuleType):
        __version__ = number

        class Logger:
            ERROR = 0

            def __init__(self, level: int) -> None: ...

        class Runtime:
            def __init__(self, log: object) -> None:
                raise Opened

    part = registry.load(Runtime, "tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", Library("tensorrt"))
    monkeypatch.setattr(sys.modules[type(part).__module__], "Cuda", lambda: None)
    monkeypatch.setattr(tensorrt_native, "why_not", lambda module: "")
    monkeypatch.setattr(tensorrt_native, "gpu", lambda: tensorrt_native.Gpu(name, capability))
    monkeypatch.setenv("EDGEKIT_TRUST", "1")
    with pytest.raises(EdgekitError if says else Opened, match=says or None), part.open(made):
        pass


def test_47_a_plan_from_elsewhere_needs_a_word(parent: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("EDGEKIT_TRUST", raising=False)
    kit = flow.export(parent.folder, "tensorrt-kit", tmp_path / "kit")
    made = dataclasses.replace(kit, manifest=dataclasses.replace(kit.manifest, details=BUILT))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "another"))  # as of another account or machine
    with pytest.raises(EdgekitError, match="holds machine code .tensorrt. that was not made here.*--trust"), registry.load(Runtime, "tensorrt").open(made):
        pass
