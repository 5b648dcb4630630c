"""edgekit works from a wheel, from an editable install, and beside a user's own `targets` package."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
LEFT_OUT = shutil.ignore_patterns(".git", ".venv*", ".oracles*", "runs", "build", "*.egg-info", "__pycache__", ".*_cache", "shared")


def call(*command: str | Path, cwd: Path) -> str:
    """Run without the PYTHON* variables that would let the checkout be found."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=clean, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout, so that a build leaves nothing behind in it."""
    copy = tmp_path_factory.mktemp("source") / "edgekit"
    shutil.copytree(ROOT, copy, ignore=LEFT_OUT)
    return copy


@pytest.fixture(scope="module")
def archives(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The sdist, and the wheel built from the unpacked sdist alone."""
    out = tmp_path_factory.mktemp("dist")
    build = "import sys; from setuptools import build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))"
    sdist = out / call(sys.executable, "-c", build, "build_sdist", out, cwd=source).splitlines()[-1]
    with tarfile.open(sdist) as tar:
        tar.extractall(out, filter="data")
    unpacked = out / sdist.name.removesuffix(".tar.gz")
    wheel = out / call(sys.executable, "-c", build, "build_wheel", out, cwd=unpacked).splitlines()[-1]
    return sdist, wheel


def environment(folder: Path, *what: str | Path) -> Path:
    """The python of a fresh environment with edgekit installed in it. Its dependencies are those of the tests' environment:
    they come last on the path, and without .pth files, so that an edgekit installed there is not the one found."""
    call(sys.executable, "-m", "venv", "--without-pip", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    site = Path(call(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder).strip())
    (site / "zz_dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    call(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-build-isolation", "--no-index",
         "--ignore-installed", "--disable-pip-version-check", *what, cwd=folder)  # fmt: skip
    return python


@pytest.fixture(scope="module", params=["wheel", "editable"])
def installed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(the environment's python, the folder that edgekit must come from), for each kind of install."""
    folder = tmp_path_factory.mktemp("env") / "venv"
    if request.param == "wheel":
        return environment(folder, request.getfixturevalue("archives")[1]), folder
    source = request.getfixturevalue("source")
    return environment(folder, "-e", source), source


LIST_ALL = """
import edgekit
from edgekit import registry, target
print(edgekit.__file__)
for kind in registry.FOLDERS:
    print(*(f"{kind.__name__}:{name}" for name in registry.names(kind) if registry.load(kind, name)))
print(*(f"target:{target.load(name).name}" for name in target.names()))
"""


def test_everything_is_found_wherever_it_is_called_from(installed, tmp_path):
    python, place = installed
    lines = call(python, "-c", LIST_ALL, cwd=tmp_path).split("\n", 1)
    assert Path(lines[0]).is_relative_to(place)
    from_checkout = call(sys.executable, "-c", LIST_ALL, cwd=ROOT).split("\n", 1)
    assert lines[1] == from_checkout[1]
    assert "target:host" in lines[1] and "Meter:none" in lines[1]


def test_a_folder_with_packages_of_the_same_names_does_no_harm(installed, tmp_path):
    python, _ = installed
    for name in ("targets", "calibration", "exporters", "examples"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the package of the user was imported')\n")
    assert "target:host" in call(python, "-c", LIST_ALL, cwd=tmp_path)
    assert "host" in call(python, "-m", "edgekit", "targets", "--json", cwd=tmp_path)
    taken = call(python, "-c", "import edgekit, sys; import importlib.util as u; print(u.find_spec('targets').origin)", cwd=tmp_path)
    assert taken.strip() == str(tmp_path / "targets" / "__init__.py")


def test_both_ways_to_call_it_say_the_same(installed, tmp_path):
    python, _ = installed
    as_module = call(python, "-m", "edgekit", "--help", cwd=tmp_path)
    as_script = call(python.parent / "edgekit", "--help", cwd=tmp_path)
    assert as_module.split("\n", 1)[1:] == as_script.split("\n", 1)[1:]
    assert "Commands:" in as_script
    assert call(python.parent / "edgekit", "--version", cwd=tmp_path).strip().endswith(PROJECT["project"]["version"])


def test_only_edgekit_reaches_site_packages(archives):
    with zipfile.ZipFile(archives[1]) as wheel:
        roots = {name.split("/")[0] for name in wheel.namelist()}
    assert roots == {"edgekit", f"edgekit-{PROJECT['project']['version']}.dist-info"}


def test_the_wheel_holds_every_file_of_every_package(archives):
    """Code, TOML files, templates: all that lies in the package folders, but no cache."""
    with zipfile.ZipFile(archives[1]) as wheel:
        packed = {name for name in wheel.namelist() if name.startswith("edgekit/")}
    wanted = set()
    for folder, prefix in (("edgekit", ""), ("exporters", "edgekit/"), ("targets", "edgekit/"), ("calibration", "edgekit/"),
                           ("examples", "edgekit/")):  # fmt: skip
        files = (f for f in (ROOT / folder).rglob("*") if f.is_file() and "__pycache__" not in f.parts)
        wanted |= {prefix + str(f.relative_to(ROOT)) for f in files if not f.name.startswith(".")}
    runtime = [f.relative_to(ROOT / "runtime") for f in (ROOT / "runtime").rglob("*") if f.is_file()]
    wanted |= {f"edgekit/_runtime/{f}" for f in runtime if f.parts[0] not in ("tests", "bench", "fuzz")}  # they stay in the repository
    assert {"edgekit/targets/host.toml", "edgekit/py.typed", "edgekit/_runtime/src/session.cpp"} <= wanted
    assert packed == wanted


def test_the_licence_is_in_both_archives(archives):
    sdist, wheel = archives
    with tarfile.open(sdist) as tar, zipfile.ZipFile(wheel) as packed:
        assert any(n.endswith("/LICENSE") for n in tar.getnames())
        name = next(n for n in packed.namelist() if n.endswith("/LICENSE"))
        assert b"Apache License" in packed.read(name)


def test_the_pins_fit_what_the_project_asks_for():
    """Every library that pyproject.toml names is pinned, so that two machines install the same."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    lines = [x for x in (ROOT / "constraints.txt").read_text().splitlines() if "==" in x and not x.startswith("#")]
    pins = {canonicalize_name(x.split("==")[0]): x.split("==")[1].split()[0] for x in lines}
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [Requirement(r) for r in (*PROJECT["project"]["dependencies"], *(r for e in extras.values() for r in e))]
    for requirement in asked:
        name = canonicalize_name(requirement.name)
        assert name == "edgekit" or requirement.specifier.contains(pins[name]), requirement


def test_all_is_every_extra_but_dev():
    extras = PROJECT["project"]["optional-dependencies"]
    inside = re.fullmatch(r"edgekit\[(.*)\]", extras["all"][0])
    # tensorrt-rtx is proprietary: whoever wants it says so.
    assert inside and set(inside[1].split(",")) == set(extras) - {"dev", "all", "tensorrt-rtx"}


def test_the_version_is_the_same_everywhere():
    import edgekit

    assert PROJECT["project"]["version"] == edgekit.__version__
    assert f"## {edgekit.__version__}" in (ROOT / "CHANGELOG.md").read_text()
