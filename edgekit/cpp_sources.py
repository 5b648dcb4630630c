"""Where the sources of the C++ runtime lie, and the JSON header that they are built with."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import edgekit
from edgekit.errors import Missing


def sources() -> Path:
    """The folder of the C++ sources: beside the package in a checkout, inside it once installed."""
    package = Path(edgekit.__file__).parent
    for folder in (package / "_runtime", package.parent / "runtime"):
        if (folder / "CMakeLists.txt").is_file():
            return folder
    raise Missing("the C++ sources are not part of this installation; install edgekit from its repository")


def json_include() -> Path:
    """The folder that holds nlohmann/json.hpp: of the PyPI package, else the system's."""
    spec = importlib.util.find_spec("nlohmann_json")
    places = [Path(p) / "include" for p in (spec.submodule_search_locations or ())] if spec else []
    for place in (*places, Path("/usr/include"), Path("/usr/local/include")):
        if (place / "nlohmann" / "json.hpp").is_file():
            return place
    raise Missing("the C++ runner is built with nlohmann/json.hpp, not found here: pip install nlohmann-json")
