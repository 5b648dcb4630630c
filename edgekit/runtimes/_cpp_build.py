"""Build the C++ runner `edgekit-run` from its sources, once for each state of the sources and each variant."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgekit import files
from edgekit.cpp_sources import json_include, sources
from edgekit.data import cache_folder
from edgekit.errors import EdgekitError, Missing
from edgekit.measurement import Progress

RUNNER = "edgekit-run"
LIBRARY = "libedgekit_c.so"  # the same as a library with a C face, beside the runner
BUILT_FROM = ("CMakeLists.txt", "cmake", "include", "src", "tools")  # of the sources; tests and examples do not matter
BUILD_LIMIT_S = 1200


@dataclass(frozen=True)
class Variant:
    """A way to build the runner: its name, what CMake is told, what the compiler is told by the environment, and whether the library is made, too."""

    name: str
    settings: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    library: bool = False

    @property
    def products(self) -> tuple[str, ...]:
        """The files that are made."""
        return (RUNNER, LIBRARY) if self.library else (RUNNER,)


def folder_of(variant: Variant) -> Path:
    """Where the runner of these sources lies, built or not."""
    digest = hashlib.sha256(repr((variant.name, variant.settings)).encode())
    root = sources()
    found = [root / name for name in BUILT_FROM]
    for path in sorted(p for f in found for p in (f.rglob("*") if f.is_dir() else [f]) if p.is_file()):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return cache_folder() / f"runtime-{variant.name}-{digest.hexdigest()[:12]}"


def runner(variant: Variant) -> Path | None:
    """The built runner, or None."""
    path = folder_of(variant) / RUNNER
    return path if path.is_file() else None


def build(variant: Variant, progress: Progress) -> Path:
    """Configure and compile; the runner. Does nothing when it is there. Raises Missing without tools, EdgekitError when it fails."""
    made = runner(variant)
    if made is not None:
        return made
    cmake = tool("cmake", "pip install cmake")
    generator = ["-G", "Ninja"] if shutil.which("ninja", path=tool_path()) else []
    environment = {**os.environ, "PATH": tool_path(), **(variant.environment or {})}
    with files.scratch("build") as work:
        configure = [cmake, *generator, "-S", str(sources()), "-B", str(work), "-DCMAKE_BUILD_TYPE=Release",
                     f"-DEDGEKIT_JSON_INCLUDE={json_include()}", *variant.settings]  # fmt: skip
        progress(f"build the C++ runner ({variant.name})", 0, 2)
        call(configure, "configure the C++ runner", environment)
        progress(f"build the C++ runner ({variant.name})", 1, 2)
        targets = (Path(p).stem.removeprefix("lib") for p in variant.products)
        call([cmake, "--build", str(work), "--target", *targets, "--parallel", "2"], "compile the C++ runner", environment)
        progress(f"build the C++ runner ({variant.name})", 2, 2)
        with files.folder_draft(folder_of(variant)) as draft:
            for product in variant.products:
                shutil.copy2(Path(work) / product, draft / product)
    return folder_of(variant) / RUNNER


def onnxruntime_folder() -> Path:
    """The folder of the installed package that holds libonnxruntime.so."""
    spec = importlib.util.find_spec("onnxruntime")
    places = [Path(p) / "capi" for p in (spec.submodule_search_locations or ())] if spec else []
    for place in places:
        if list(place.glob("libonnxruntime.so*")):
            return place
    raise Missing("the onnxruntime package here has no libonnxruntime.so; install 1.20 or newer: pip install -U onnxruntime")


def tool(name: str, hint: str) -> str:
    """The path of a program on PATH or among this environment's scripts."""
    found = shutil.which(name, path=tool_path())
    if found is None:
        raise Missing(f"the C++ runner is built with {name}, not found here: {hint}")
    return found


def tool_path() -> str:
    """PATH, with the scripts of this Python environment last."""
    return os.pathsep.join((os.environ.get("PATH", ""), str(Path(sys.executable).parent)))


def call(command: Sequence[str], what: str, environment: Mapping[str, str] | None = None) -> str:
    """Run a tool; its output. EdgekitError with the first line that tells of an error."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=BUILD_LIMIT_S, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        raise EdgekitError(f"could not {what}: it took more than {BUILD_LIMIT_S} s") from None
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()
        told = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "it said nothing")
        raise EdgekitError(f"could not {what}: {told.strip()}")
    return done.stdout
