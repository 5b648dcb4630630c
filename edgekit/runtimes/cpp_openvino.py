"""The C++ runtime on OpenVINO: the runner built against the installed package's own CMake files."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgekit import __version__
from edgekit.bundle import Bundle
from edgekit.errors import Missing
from edgekit.measurement import Progress
from edgekit.parts import Runtime, Session
from edgekit.runtimes._cpp_build import Variant, build, runner
from edgekit.runtimes._cpp_session import CppSession


def _variant() -> Variant:
    from importlib.util import find_spec
    from pathlib import Path

    spec = find_spec("openvino")
    folders = [Path(p) / "cmake" for p in (spec.submodule_search_locations or ())] if spec else []
    return Variant("native-openvino", ("-DEDGEKIT_OPENVINO=ON", *(f"-DOpenVINO_DIR={f}" for f in folders[:1])))


class CppOpenVino(Runtime):
    """Opens OpenVINO's files, and ONNX files too."""

    needs = ("openvino",)
    extra = "openvino"
    formats = ("openvino",)
    also_opens = ("onnx",)
    optional = True

    def version(self) -> str:
        """As in 'edgekit-run 0.1.0 with openvino 2026.4.1'."""
        from importlib.metadata import version

        return f"edgekit-run {__version__} with openvino {version('openvino')}"

    def ready(self) -> str:
        """See Runtime.ready."""
        try:
            built = runner(_variant())
        except Missing as missing:
            return str(missing)
        return "" if built else "the C++ runner is not built with OpenVINO: run `edgekit setup cpp_openvino`"

    def setup(self, progress: Progress) -> str:
        """Needs cmake and a C++17 compiler."""
        return f"the C++ runner is built with OpenVINO: {build(_variant(), progress)}"

    @contextmanager
    def open(self, bundle: Bundle, threads: int = 0, probes: bool = False) -> Iterator[Session]:
        """Each call is a process of its own."""
        built = runner(_variant())
        if built is None:
            raise Missing(self.ready())
        options = ["--engine", "openvino", "--threads", str(threads), *(["--probes"] if probes else [])]
        yield CppSession(bundle, [str(built)], options)


PART = CppOpenVino()
