"""The C++ runner and ONNX Runtime for another machine: which build fits its processor and its C library."""

from __future__ import annotations

import importlib.util
import platform
import re
import sys
from functools import lru_cache
from pathlib import Path

from edgekit import files
from edgekit.data import cache_folder
from edgekit.errors import EdgekitError, Missing
from edgekit.measurement import Progress
from edgekit.remote.kit import Kit
from edgekit.runtimes import _cpp_aarch64 as aarch64
from edgekit.runtimes._cpp_build import Variant, build, onnxruntime_folder, runner

ARCHITECTURES = ("x86_64", "aarch64")
OLDEST_GLIBC = (2, 28)  # that zig is told to build for, and that ONNX Runtime's wheels need
ZIG_HINT = "pip install ziglang builds one that needs only 2.28"


def kit(architecture: str, glibc: tuple[int, int], native: Variant, library: bool, progress: Progress) -> Kit:
    """See edgekit.remote.kit.Portable."""
    if architecture not in ARCHITECTURES:
        raise EdgekitError(
            f"edgekit carries its runner to {' and '.join(ARCHITECTURES)}, and the device is {architecture}: install a 64-bit system there"
        )
    if glibc < OLDEST_GLIBC:
        raise EdgekitError(f"ONNX Runtime needs glibc {_text(OLDEST_GLIBC)}, and the device has {_text(glibc)}: install a newer system there")
    return Kit(_runner(architecture, glibc, native, progress), _library(architecture, glibc, progress) if library else None)


def glibc_of(program: Path) -> tuple[int, int]:
    """The newest glibc whose symbols a program or library names; (0, 0) for none."""
    return _glibc_of(program, program.stat().st_mtime_ns)


@lru_cache
def _glibc_of(program: Path, _changed_ns: int) -> tuple[int, int]:
    found = re.findall(rb"GLIBC_(\d+)\.(\d+)", program.read_bytes())
    return max(((int(a), int(b)) for a, b in found), default=(0, 0))


def _runner(architecture: str, glibc: tuple[int, int], native: Variant, progress: Progress) -> Path:
    """One that is built and fits, else the first that can be built and fits."""
    ways = _ways(architecture, native)
    for way in ways:
        built = runner(way)
        if built and glibc_of(built) <= glibc:
            return built
    needed = []
    for way in ways:
        if way.environment and not runner(way):
            _write_zig_wrappers(architecture)
        built = build(way, progress)
        if glibc_of(built) <= glibc:
            return built
        needed.append(glibc_of(built))
    if not needed:
        raise Missing(f"there is no compiler for {architecture} here: pip install ziglang")
    raise Missing(f"the runner that is built here needs glibc {_text(min(needed))}, and the device has {_text(glibc)}: {ZIG_HINT}")


def _ways(architecture: str, native: Variant) -> list[Variant]:
    zig = importlib.util.find_spec("ziglang") is not None
    if architecture == platform.machine():
        return [native, *([_zig(architecture)] if zig else [])]
    if architecture == "aarch64":  # the compiler of this machine's own emulated processors
        return [*([aarch64.variant()] if _has_cross() else []), *([_zig(architecture)] if zig else [])]
    return [_zig(architecture)] if zig else []


def _has_cross() -> bool:
    try:
        return not aarch64.variant().environment
    except Missing:
        return False


def _zig(architecture: str) -> Variant:
    if architecture == "aarch64":
        return aarch64._zig()
    folder = cache_folder() / "zig" / f"bin-{architecture}"
    settings = ("-DCMAKE_SYSTEM_NAME=Linux", f"-DCMAKE_SYSTEM_PROCESSOR={architecture}", f"-DCMAKE_C_COMPILER={folder / 'zigcc'}",
                f"-DCMAKE_CXX_COMPILER={folder / 'zigcxx'}", f"-DCMAKE_AR={folder / 'zigar'}",
                f"-DCMAKE_RANLIB={folder / 'zigranlib'}", "-DCMAKE_EXE_LINKER_FLAGS=-s")  # fmt: skip
    return Variant(f"{architecture}-zig", settings, {"ZIG_GLOBAL_CACHE_DIR": str(cache_folder() / "zig" / "cache")})


def _write_zig_wrappers(architecture: str) -> None:
    """CMake wants a compiler in one word."""
    if architecture == "aarch64":
        aarch64._write_zig_wrappers()
        return
    folder = cache_folder() / "zig" / f"bin-{architecture}"
    target = f"-target {architecture}-linux-gnu.{_text(OLDEST_GLIBC)}"
    for name, verb in (("zigcc", f"cc {target}"), ("zigcxx", f"c++ {target}"), ("zigar", "ar"), ("zigranlib", "ranlib")):
        files.write_text(folder / name, f'#!/bin/sh\nexec "{sys.executable}" -m ziglang {verb} "$@"\n', mode=0o755)


def _library(architecture: str, glibc: tuple[int, int], progress: Progress) -> Path:
    """ONNX Runtime of this machine's version."""
    if architecture == platform.machine():
        found = next(iter(sorted(onnxruntime_folder().glob("libonnxruntime.so*"))))
    elif architecture == "aarch64":
        progress("fetch ONNX Runtime for aarch64", 0, 1)
        if aarch64._library() is None:
            aarch64._fetch_library()
        progress("fetch ONNX Runtime for aarch64", 1, 1)
        fetched = aarch64._library()
        assert fetched is not None
        found = fetched
    else:
        raise EdgekitError(f"ONNX Runtime for {architecture} cannot be fetched from a {platform.machine()} machine; give the device its own: library")
    if glibc_of(found) > glibc:
        raise EdgekitError(f"ONNX Runtime needs glibc {_text(glibc_of(found))}, and the device has {_text(glibc)}: install a newer system there")
    return found


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
