"""The C++ runtime on ONNX Runtime: the runner `edgekit-run`, built from the sources by `edgekit setup cpp`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgekit import __version__
from edgekit.bundle import Bundle
from edgekit.errors import Missing
from edgekit.measurement import Progress
from edgekit.parts import Runtime, Session
from edgekit.remote.kit import Kit
from edgekit.runtimes._cpp_build import Variant, build, onnxruntime_folder, runner
from edgekit.runtimes._cpp_session import CppSession

NATIVE = Variant("native", library=True)  # edgekit/runtimes/spike.py loads it


class Cpp(Runtime):
    """ONNX Runtime is loaded when the runner starts, from the Python package that is installed here."""

    needs = ("onnxruntime",)
    formats = ("onnx",)
    also_opens = ("spike",)
    optional = True

    def version(self) -> str:
        """As in 'edgekit-run 0.1.0 with onnxruntime 1.32.0'."""
        from importlib.metadata import version

        return f"edgekit-run {__version__} with onnxruntime {version('onnxruntime')}"

    def ready(self) -> str:
        """See Runtime.ready."""
        try:
            return "" if runner(NATIVE) else "the C++ runner is not built from these sources: run `edgekit setup cpp`"
        except Missing as missing:
            return str(missing)

    def setup(self, progress: Progress) -> str:
        """Needs cmake and a C++17 compiler."""
        return f"the C++ runner is built: {build(NATIVE, progress)}"

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """Each call is a process of its own."""
        built = runner(NATIVE)
        if built is None:
            raise Missing(self.ready())
        options = ["--library", str(onnxruntime_folder()), "--threads", str(threads), *(["--probes"] if probes else [])]
        yield CppSession(bundle, [str(built)], options)

    def kit(self, architecture: str, glibc: tuple[int, int], library: bool, progress: Progress) -> Kit:
        """See edgekit.remote.kit.Portable: the runner for a device without Python."""
        from edgekit.runtimes import _cpp_kit

        return _cpp_kit.kit(architecture, glibc, NATIVE, library, progress)


PART = Cpp()
