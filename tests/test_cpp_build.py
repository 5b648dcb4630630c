"""The C++ runtime's own tests, built with AddressSanitizer and UndefinedBehaviorSanitizer; an installed one, found by CMake."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import program_fixture
import pytest
from cpp_sanitized import call, compiled, configured, sanitized

from edgekit import registry
from edgekit.cpp_sources import sources
from edgekit.parts import Runtime
from edgekit.runtimes import _cpp_build, cpp


@pytest.fixture(scope="session")
def bundle(small_run: Path) -> Path:
    """The T=4 network, whose golden answers the C++ tests compare with."""
    folder = small_run.parent / "programs"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return program_fixture.make("snn_t4", folder, small_run)


def built(folder: Path, *settings: str) -> Path:
    compiled(configured(folder, *settings))
    return folder


@pytest.mark.builds
def test_the_cpp_tests_run_clean_under_the_sanitizers(tmp_path_factory: pytest.TempPathFactory, bundle: Path):
    build = sanitized(tmp_path_factory)
    said = call("ctest", "--test-dir", build, "--output-on-failure", EDGEKIT_TEST_BUNDLE=str(bundle))
    assert "100% tests passed, 0 tests failed out of 5" in said
    assert '"passed": true' in call(build / "edgekit-run", bundle, "--golden")


@pytest.mark.builds
def test_an_installed_runtime_is_found_by_cmake_and_runs(tmp_path: Path, bundle: Path):
    build = built(tmp_path / "b", "-DBUILD_SHARED_LIBS=ON", "-DCMAKE_BUILD_TYPE=Debug", "-DEDGEKIT_TOOLS=OFF")
    call("cmake", "--install", build, "--prefix", tmp_path / "installed")
    call("cmake", "-S", sources() / "example", "-B", tmp_path / "e", f"-DCMAKE_PREFIX_PATH={tmp_path / 'installed'}")
    call("cmake", "--build", tmp_path / "e")
    np.save(tmp_path / "image.npy", np.zeros((3, 1, 8, 8), np.uint8))
    said = call(tmp_path / "e" / "example", bundle, f"image={tmp_path / 'image.npy'}")
    assert said.startswith("logits: float32 [3, 10] on onnxruntime")


def test_the_runner_says_in_one_sentence_what_it_cannot_do(tmp_path: Path, bundle: Path):
    part = registry.load(Runtime, "cpp")
    if part.ready():
        pytest.skip(part.ready())
    np.save(tmp_path / "image.npy", np.zeros((3, 1, 8, 9), np.uint8))
    for arguments, says in (
        ([], "no bundle was named"),
        ([tmp_path / "none"], "no bundle in"),
        ([bundle, "--input", tmp_path / "image.npy"], "'image' must be uint8 [batch, 1, 8, 8], but got uint8 [3, 1, 8, 9]"),
        ([bundle], "the input 'image' is missing"),
        ([bundle, "--input", "picture=x.npy"], "no input 'picture'; there are: image"),
        ([bundle, "--stream"], "is no stream"),
        ([bundle, "--task", "other"], "it has one program and no task 'other'; leave the task out"),
        ([bundle, "--task", ""], "--task takes the name of a task"),
        ([bundle, "--chunks", "3,x"], "--chunks takes sizes"),
        ([bundle, "--library", tmp_path], "holds no libonnxruntime.so"),
        ([bundle, "--engine", "openvino"], "this build has no OpenVINO"),
        ([bundle, "--threads", "-1"], "--threads takes a number"),
    ):
        done = subprocess.run([str(_cpp_build.runner(cpp.NATIVE)), *map(str, arguments)], capture_output=True, text=True, check=False,
                              env={**os.environ, "EDGEKIT_PYTHON": sys.executable})  # fmt: skip
        assert done.returncode == 2 and says in done.stderr and done.stderr.startswith("error: ") and len(done.stderr.splitlines()) == 1, done.stderr
