"""aarch64 without a board: the runner cross-built, ONNX Runtime's aarch64 library, and qemu's user mode with a faked /proc/cpuinfo."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
import zipfile
from pathlib import Path

from edgekit import files
from edgekit.data import cache_folder
from edgekit.errors import Missing
from edgekit.measurement import Progress
from edgekit.runtimes._cpp_build import Variant, build, call, runner

TRIPLE = "aarch64-linux-gnu"
GLIBC = "2.28"  # what the aarch64 wheels of ONNX Runtime need
CROSS_ROOT = Path(f"/usr/{TRIPLE}")  # Debian and Ubuntu: libc6-arm64-cross
DEBS = ("qemu-user-static", "libc6-arm64-cross", "libgcc-s1-arm64-cross", "libstdc++6-arm64-cross")
EMULATOR = "usr/bin/qemu-aarch64-static"
HINT = "apt-get install g++-aarch64-linux-gnu qemu-user"

# ONNX Runtime reads /proc/cpuinfo to choose its kernels, and qemu passes the host's through; a text that names another
# processor than `-cpu` makes it choose instructions that are not there.
_CPUINFO = """processor\t: {n}
BogoMIPS\t: 108.00
Features\t: {features}
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: {variant}
CPU part\t: {part}
CPU revision\t: {revision}

"""
PROCESSORS = {  # qemu's name -> what Linux says on such a processor
    "cortex-a53": {"features": "fp asimd evtstrm aes pmull sha1 sha2 crc32 cpuid", "variant": "0x0", "part": "0xd03", "revision": "4"},
    "cortex-a76": {
        "features": "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
        "variant": "0x4", "part": "0xd0b", "revision": "1",
    },
}  # fmt: skip


def variant() -> Variant:
    """The one that is built here, else Debian's cross compiler where it is, else zig from PyPI."""
    ways = [*([_cross()] if shutil.which(f"{TRIPLE}-g++") else []), *([_zig()] if importlib.util.find_spec("ziglang") else [])]
    if not ways:
        raise Missing(f"there is no compiler for aarch64: {HINT}, or pip install ziglang")
    return next((way for way in ways if runner(way)), ways[0])


def _cross() -> Variant:
    return Variant("aarch64", (
        "-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_C_COMPILER={TRIPLE}-gcc",
        f"-DCMAKE_CXX_COMPILER={TRIPLE}-g++", "-DCMAKE_EXE_LINKER_FLAGS=-static-libstdc++ -static-libgcc"))  # fmt: skip


def _zig() -> Variant:
    bin_folder = cache_folder() / "zig" / "bin"
    settings = ("-DCMAKE_SYSTEM_NAME=Linux", "-DCMAKE_SYSTEM_PROCESSOR=aarch64", f"-DCMAKE_C_COMPILER={bin_folder / 'zigcc'}",
                f"-DCMAKE_CXX_COMPILER={bin_folder / 'zigcxx'}", f"-DCMAKE_AR={bin_folder / 'zigar'}",
                f"-DCMAKE_RANLIB={bin_folder / 'zigranlib'}", "-DCMAKE_EXE_LINKER_FLAGS=-s")  # fmt: skip
    return Variant("aarch64-zig", settings, {"ZIG_GLOBAL_CACHE_DIR": str(cache_folder() / "zig" / "cache")})


def reason_not_ready(runtime: str) -> str:
    """Empty when runner, library, emulator and sysroot are there."""
    command = f"run `edgekit setup {runtime}`"
    try:
        built = runner(variant())
    except Missing as missing:
        return str(missing)
    if built is None:
        return f"the C++ runner for aarch64 is not built from these sources: {command}"
    if not _library() or not _emulator():
        return f"ONNX Runtime for aarch64 or the emulator is not there: {command}"
    return ""


def setup(progress: Progress) -> str:
    """Build and fetch what is missing."""
    chosen = variant()
    if chosen.environment:
        _write_zig_wrappers()
    built = build(chosen, progress)
    progress("fetch ONNX Runtime for aarch64", 0, 1)
    if not _library():
        _fetch_library()
    progress("fetch ONNX Runtime for aarch64", 1, 1)
    if not _emulator() or not _libc():
        _fetch_debs()
    return f"the C++ runner for aarch64 is built ({chosen.name}) in {built.parent}, and runs under {_emulator()}"


def command(processor: str) -> tuple[list[str], list[str]]:
    """(how the runner is started, options that each call needs) for one of PROCESSORS."""
    built, emulator, library = runner(variant()), _emulator(), _library()
    if built is None or emulator is None or library is None:
        raise Missing("the runner for aarch64 is not set up")
    return [emulator, "-L", str(_sysroot(processor)), "-cpu", processor, str(built)], ["--library", str(library)]


def _sysroot(processor: str) -> Path:
    """A root folder for the emulated process: its C library, and the cpuinfo of that processor."""
    root = cache_folder() / "aarch64" / f"root-{processor}"
    text = "".join(_CPUINFO.format(n=n, **PROCESSORS[processor]) for n in range(4))
    path = root / "proc" / "cpuinfo"
    if not path.is_file() or path.read_text() != text:
        files.write_text(path, text)
    libc = _libc()
    if libc is None:
        raise Missing(f"there is no C library for aarch64: {HINT}")
    link = root / "lib"
    if not link.is_symlink() or link.readlink() != libc:
        other = root / f"{files.DRAFT}lib-{os.getpid()}"  # two processes may come here at once
        other.unlink(missing_ok=True)
        other.symlink_to(libc)
        other.replace(link)
    return root


def _library() -> Path | None:
    folder = cache_folder() / "aarch64" / f"onnxruntime-{importlib.metadata.version('onnxruntime')}"
    return next(iter(sorted(folder.glob("libonnxruntime.so*"))), None)


def _fetch_library() -> None:
    version = importlib.metadata.version("onnxruntime")
    with files.scratch("wheel") as work:
        call([sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:",
              "--platform", "manylinux_2_28_aarch64", "--platform", "manylinux_2_27_aarch64", "--python-version", "3.11",
              "--dest", str(work), f"onnxruntime=={version}"], f"fetch ONNX Runtime {version} for aarch64")  # fmt: skip
        wheel = next(Path(work).glob("*.whl"))
        with zipfile.ZipFile(wheel) as archive, files.folder_draft(cache_folder() / "aarch64" / f"onnxruntime-{version}") as draft:
            names = [n for n in archive.namelist() if n.startswith("onnxruntime/capi/libonnxruntime.so")]
            for name in names:
                (draft / Path(name).name).write_bytes(archive.read(name))


def _emulator() -> str | None:
    own = cache_folder() / "aarch64" / "debs" / EMULATOR
    return shutil.which("qemu-aarch64") or shutil.which("qemu-aarch64-static") or (str(own) if own.is_file() else None)


def _libc() -> Path | None:
    own = cache_folder() / "aarch64" / "debs" / "usr" / TRIPLE / "lib"
    return next((p for p in (CROSS_ROOT / "lib", own) if (p / "ld-linux-aarch64.so.1").exists()), None)


def _fetch_debs() -> None:
    """qemu and the C library without root: Debian's packages, unpacked into the cache."""
    if not shutil.which("apt-get") or not shutil.which("dpkg"):
        raise Missing(f"there is no qemu-aarch64 here; on Debian or Ubuntu: {HINT}")
    with files.scratch("apt") as work:
        for folder in ("state/lists/partial", "cache/archives/partial"):
            (Path(work) / folder).mkdir(parents=True)
        options = [f"-oDir::State={work}/state", f"-oDir::Cache={work}/cache", "-oDir::State::status=/var/lib/dpkg/status",
                   "-oDebug::NoLocking=1", "-oAPT::Sandbox::User="]  # fmt: skip
        call(["apt-get", *options, "-qq", "update"], "read the package lists")
        download = Path(work) / "debs"
        download.mkdir()
        here = Path.cwd()
        try:
            os.chdir(download)  # apt-get download writes into the current folder
            call(["apt-get", *options, "-qq", "download", *DEBS], "download qemu for aarch64")
        finally:
            os.chdir(here)
        unpacked = Path(work) / "unpacked"
        for deb in sorted(download.glob("*.deb")):
            call(["dpkg", "-x", str(deb), str(unpacked)], f"unpack {deb.name}")
        with files.folder_draft(cache_folder() / "aarch64" / "debs") as draft:
            (draft / "usr" / "bin").mkdir(parents=True)
            shutil.copy2(unpacked / EMULATOR, draft / EMULATOR)  # the package holds every processor's
            shutil.copytree(unpacked / "usr" / TRIPLE, draft / "usr" / TRIPLE, symlinks=True)


def _write_zig_wrappers() -> None:
    """CMake wants a compiler in one word."""
    folder = cache_folder() / "zig" / "bin"
    target = f"-target {TRIPLE}.{GLIBC}"
    for name, verb in (("zigcc", f"cc {target}"), ("zigcxx", f"c++ {target}"), ("zigar", "ar"), ("zigranlib", "ranlib")):
        files.write_text(folder / name, f'#!/bin/sh\nexec "{sys.executable}" -m ziglang {verb} "$@"\n', mode=0o755)


