"""Which build of the C++ runner is carried to which machine: one whose processor and C library it fits, or none."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edgekit import registry
from edgekit.errors import EdgekitError, Missing
from edgekit.parts import Runtime
from edgekit.remote.kit import Portable
from edgekit.runtimes import _cpp_build, _cpp_kit
from edgekit.runtimes._cpp_build import Variant

HERE = platform.machine()


def silent(what: str, done: int, total: int) -> None:
    return None


@pytest.fixture
def builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, bool]]:
    """Variant -> (the glibc that its runner needs, whether it is built); a "build" writes such a runner."""
    known: dict[str, tuple[str, bool]] = {}

    def path(way: Variant) -> Path:
        file = tmp_path / way.name
        file.write_bytes(b"\x7fELF...GLIBC_2.17\0GLIBC_" + known[way.name][0].encode() + b"\0")
        return file

    monkeypatch.setattr(_cpp_kit, "runner", lambda way: path(way) if known.get(way.name, ("", False))[1] else None)
    monkeypatch.setattr(_cpp_kit, "build", lambda way, progress: path(way))
    monkeypatch.setattr(_cpp_kit, "_write_zig_wrappers", lambda architecture: None)
    monkeypatch.setattr(_cpp_kit, "_ways", lambda architecture, native: [Variant(name) for name in known])
    return known


def chosen(glibc: tuple[int, int]) -> str:
    return _cpp_kit.kit(HERE if HERE in _cpp_kit.ARCHITECTURES else "x86_64", glibc, Variant("native"), False, silent).runner.name


def test_a_build_that_is_there_is_taken_where_its_c_library_fits(builds: dict[str, tuple[str, bool]]) -> None:
    builds |= {"native": ("2.38", True), "zig": ("2.28", True)}
    assert chosen((2, 38)) == "native" and chosen((2, 41)) == "native"
    assert chosen((2, 36)) == "zig" and chosen((2, 28)) == "zig"


def test_the_next_is_built_where_the_first_needs_a_newer_c_library(builds: dict[str, tuple[str, bool]]) -> None:
    builds |= {"native": ("2.38", True), "zig": ("2.28", False)}
    assert chosen((2, 31)) == "zig"


def test_no_build_that_fits_is_said(builds: dict[str, tuple[str, bool]]) -> None:
    builds |= {"native": ("2.38", True)}
    with pytest.raises(Missing, match=r"needs glibc 2\.38, and the device has 2\.31: pip install ziglang"):
        chosen((2, 31))
    builds.clear()
    with pytest.raises(Missing, match="there is no compiler for"):
        chosen((2, 31))


@pytest.mark.parametrize(
    ("architecture", "glibc", "says"),
    [
        ("armv7l", (2, 36), "carries its runner to x86_64 and aarch64, and the device is armv7l: install a 64-bit system"),
        ("aarch64", (2, 27), r"ONNX Runtime needs glibc 2\.28, and the device has 2\.27"),
    ],
)
def test_a_machine_that_nothing_fits_is_said(architecture: str, glibc: tuple[int, int], says: str) -> None:
    part = registry.load(Runtime, "cpp")
    assert isinstance(part, Portable)
    with pytest.raises(EdgekitError, match=says):
        part.kit(architecture, glibc, True, silent)


def test_only_the_cpp_runtime_is_carried() -> None:
    assert [n for n in registry.names(Runtime) if isinstance(registry.load(Runtime, n), Portable)] == ["cpp"]


@pytest.mark.skipif(not shutil.which("objdump"), reason="no objdump here: apt-get install binutils")
def test_the_c_library_that_a_program_needs_is_what_its_symbols_say() -> None:
    library = next(_cpp_build.onnxruntime_folder().glob("libonnxruntime.so*"))
    for program in (library, Path(str(shutil.which("sh"))).resolve()):
        told = subprocess.run(["objdump", "-T", str(program)], capture_output=True, text=True, check=True).stdout
        versions = [(int(a), int(b)) for a, b in re.findall(r"\(?GLIBC_(\d+)\.(\d+)", told)]
        assert _cpp_kit.glibc_of(program) == max(versions)
