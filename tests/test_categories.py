"""Numbers that name categories: what is not among them is refused before an engine sees it, in Python and in C++ alike."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from toy_bundles import bundle, graph, tensor

from edgekit import files, registry
from edgekit.bundle import Bundle, open_bundle
from edgekit.errors import Broken, EdgekitError
from edgekit.parts import Runtime
from edgekit.program import once
from edgekit.runtimes import _cpp_build, cpp
from edgekit.signature import Signature, Tensor

TABLE = np.arange(12, dtype=np.float32).reshape(4, 3)
WRONG = [([[0, -1]], "0 to 1 in place 1 of its last axis, but got -1"), ([[0, 0], [4, 0]], "0 to 3 in place 0 of its last axis, but got 4")]


@pytest.fixture(scope="module", params=["int64", "int32"])
def looked_up(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """y = rows of TABLE by the given numbers: ONNX's Gather takes -1 for the last row."""
    given = tensor("which", "batch", 2, dtype=request.param)
    told = dataclasses.replace(given, categories=(4, 2))
    answer = tensor("y", "batch", 2, 3)
    model = graph((given,), (answer,), [helper.make_node("Gather", ["table", "which"], ["y"], axis=0)], {"table": TABLE})
    return bundle(tmp_path_factory.mktemp("categories") / "b", {"main": model}, Signature((told,), (answer,)), once(("which",), ("y",)))


def test_they_are_kept_in_the_manifest_and_only_where_there_are_any(looked_up: Bundle) -> None:
    opened = open_bundle(looked_up.folder).manifest.signature
    assert opened.inputs[0].categories == (4, 2) and opened.outputs[0].categories == ()
    written = json.loads((looked_up.folder / "bundle.json").read_text())["signature"]
    assert written["inputs"][0]["categories"] == [4, 2] and "categories" not in written["outputs"][0]


def test_python_refuses_what_is_not_among_them(looked_up: Bundle) -> None:
    dtype = looked_up.manifest.signature.inputs[0].dtype
    with registry.find(Runtime, "onnxruntime").open(looked_up) as session:
        good = np.array([[3, 1], [0, 0]], dtype)
        np.testing.assert_array_equal(session.run({"which": good})["y"], TABLE[good])
        for given, says in WRONG:
            with pytest.raises(EdgekitError, match=says):
                session.run({"which": np.array(given, dtype)})


def test_the_cpp_runner_refuses_them_in_the_same_words(looked_up: Bundle, tmp_path: Path) -> None:
    runner = _cpp_build.runner(cpp.NATIVE)
    if runner is None:
        pytest.skip("the C++ runner is not built from these sources: run `edgekit setup cpp`")

    def run(given: list) -> subprocess.CompletedProcess[str]:
        np.save(tmp_path / "which.npy", np.array(given, looked_up.manifest.signature.inputs[0].dtype))
        command = [runner, looked_up.folder, "--library", _cpp_build.onnxruntime_folder(), "--input", tmp_path / "which.npy",
                   "--output", f"y={tmp_path / 'y.npy'}"]  # fmt: skip
        return subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, env={**os.environ, "EDGEKIT_PYTHON": sys.executable})

    done = run([[3, 1], [0, 0]])
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "y.npy"), TABLE[[[3, 1], [0, 0]]])
    for given, says in WRONG:
        failed = run(given)
        assert failed.returncode == 2 and f"'which' names categories: {says}" in failed.stderr and len(failed.stderr.splitlines()) == 1


@pytest.mark.parametrize("wrong", [[4], [4, 0], [4, -2], [4, 1.5], "42", [], [4, True]])
def test_categories_that_do_not_fit_their_tensor_make_a_broken_bundle(wrong: object) -> None:
    good = {"name": "a", "dtype": "int64", "shape": ["batch", 2], "meaning": "", "categories": [4, 2]}
    assert Signature.from_json({"inputs": [good], "outputs": []}, "x").inputs == (Tensor("a", "int64", ("batch", 2), "", (4, 2)),)
    for change in ({"categories": wrong}, {"dtype": "float32"}, {"shape": [2, "batch"]}, {"shape": []}):
        with pytest.raises(Broken, match="categories of 'a'"):
            Signature.from_json({"inputs": [{**good, **change}], "outputs": []}, "x")


def test_the_cpp_runner_reads_no_categories_that_do_not_fit(looked_up: Bundle, tmp_path: Path) -> None:
    runner = _cpp_build.runner(cpp.NATIVE)
    if runner is None:
        pytest.skip("the C++ runner is not built from these sources: run `edgekit setup cpp`")
    for wrong in ([4], [4, 0], [4, -2], [4, 1.5], "42", [1 << 40, 2]):
        folder = tmp_path / files.hash_of(wrong)[:8]
        shutil.copytree(looked_up.folder, folder)
        written = json.loads((folder / "bundle.json").read_text())
        written["signature"]["inputs"][0]["categories"] = wrong
        (folder / "bundle.json").write_text(json.dumps(written))
        failed = subprocess.run([str(runner), str(folder)], capture_output=True, text=True, check=False, env={**os.environ, "EDGEKIT_PYTHON": sys.executable})
        assert failed.returncode == 2 and "categories must be" in failed.stderr and len(failed.stderr.splitlines()) == 1, failed.stderr
