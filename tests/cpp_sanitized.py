"""One build of the C++ runtime with AddressSanitizer and UndefinedBehaviorSanitizer, shared by the test files that need one."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edgekit.cpp_sources import json_include, sources

PATH = os.pathsep.join((os.environ["PATH"], str(Path(sys.executable).parent)))
SETTINGS = ("-DEDGEKIT_TESTS=ON", "-DEDGEKIT_TOOLS=ON", "-DEDGEKIT_FUZZ_REPLAY=ON", "-DEDGEKIT_SANITIZE=address,undefined", "-DCMAKE_BUILD_TYPE=Debug")


def call(*command: object, **environment: str) -> str:
    env = {**os.environ, "PATH": PATH, "EDGEKIT_PYTHON": sys.executable, **environment}
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def configured(folder: Path, *settings: str) -> Path:
    """A build folder; the test is skipped where there are no tools."""
    if not shutil.which("cmake", path=PATH) or not shutil.which("c++"):
        pytest.skip("no cmake or no C++ compiler")
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=PATH) else []
    call("cmake", *generator, "-S", sources(), "-B", folder, f"-DEDGEKIT_JSON_INCLUDE={json_include()}", *settings)
    return folder


def compiled(folder: Path, *target: str) -> None:
    """Without a warning."""
    said = call("cmake", "--build", folder, "--parallel", os.environ.get("CMAKE_BUILD_PARALLEL_LEVEL", "2"), *(["--target", *target] if target else []))
    assert "warning:" not in said


def sanitized(tmp_path_factory: pytest.TempPathFactory, *target: str) -> Path:
    """The build folder with these targets, or all, up to date; one for a whole test session, of several processes too. A folder that
    EDGEKIT_SANITIZED_BUILD names is kept from session to session."""
    base = tmp_path_factory.getbasetemp()
    kept = os.environ.get("EDGEKIT_SANITIZED_BUILD")
    folder = Path(kept) if kept else (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "cpp-sanitized"
    folder.mkdir(exist_ok=True, parents=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        compiled(configured(folder / "b", *SETTINGS), *target)
    return folder / "b"
