"""One contract for all parts of all kinds: whatever is listed can be loaded, says what it needs, and fits the others."""

from __future__ import annotations

import importlib
import re
import sys
import tomllib
from pathlib import Path

import pytest

from edgekit import registry, target
from edgekit.errors import EdgekitError
from edgekit.parts import Calibrator, Exporter, Meter, Part, Runtime
from edgekit.route import all_steps, steps_of

ROOT = Path(__file__).parent.parent
ALL = [(kind, name) for kind in registry.FOLDERS for name in registry.names(kind)]
IDS = [f"{registry.FOLDERS[kind]}-{name}" for kind, name in ALL]
FORMATTED = [(kind, name) for kind, name in ALL if kind in (Exporter, Calibrator)]


def module_of(kind: type[Part], name: str):
    return importlib.import_module(f"edgekit.{registry.FOLDERS[kind]}.{name}")


def made_here() -> set[str]:
    """Labels of all bundles that an exporter or calibrator makes."""
    return {step.label for step in all_steps()}


@pytest.mark.parametrize("kind", registry.FOLDERS, ids=lambda k: k.__name__)
def test_every_kind_has_a_part(kind):
    assert registry.names(kind)


@pytest.mark.parametrize(("kind", "name"), ALL, ids=IDS)
def test_a_part_is_of_its_kind(kind, name):
    assert isinstance(registry.load(kind, name), kind)
    assert isinstance(module_of(kind, name).PART, kind)


@pytest.mark.parametrize(("kind", "name"), ALL, ids=IDS)
def test_a_part_file_begins_with_one_sentence(kind, name):
    first = (module_of(kind, name).__doc__ or "").strip().split("\n\n")[0]
    assert re.fullmatch(r"[^.].*[.:]", first, re.DOTALL), f"{name}: {first!r}"


@pytest.mark.parametrize(("kind", "name"), ALL, ids=IDS)
def test_a_part_that_needs_something_names_an_extra_that_brings_it(kind, name):
    part = registry.load(kind, name)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert isinstance(part.needs, tuple)
    assert not part.extra or part.extra in extras
    core = {"numpy", "click", "rich", "onnx", "onnxruntime", "safetensors"}
    assert part.extra or set(part.needs) <= core, f"{name} needs {part.needs} but names no extra"
    brought = {re.split(r"[\[<>=!~; ]", d)[0].replace("-", "_").lower() for d in extras.get(part.extra, [])}
    imports_as = {"scikit_learn": "sklearn", "lightning_fabric": "lightning_fabric", "pillow": "pil", "nvidia_ml_py": "pynvml"}
    brought |= {imports_as[b] for b in brought & imports_as.keys()}
    assert {n.split(".")[0].lower() for n in part.needs} <= brought | core


@pytest.mark.parametrize(("kind", "name"), ALL, ids=IDS)
def test_a_part_is_found_or_the_command_that_installs_it_is_named(kind, name):
    try:
        assert registry.find(kind, name) is registry.load(kind, name)
    except EdgekitError as error:
        assert registry.install_hint(registry.load(kind, name)) in str(error)


@pytest.mark.parametrize(("kind", "name"), FORMATTED, ids=[n for _, n in FORMATTED])
def test_what_a_part_accepts_is_made_by_another(kind, name):
    for step in steps_of(kind, name):
        assert (step.accepts == "checkpoint" and kind is Exporter) or step.accepts in made_here() - {step.label}


@pytest.mark.parametrize(("kind", "name"), FORMATTED, ids=[n for _, n in FORMATTED])
def test_options_have_defaults_that_json_can_hold(kind, name):
    import json

    options = dict(registry.load(kind, name).options)
    assert json.loads(json.dumps(options)) == {k: list(v) if isinstance(v, tuple) else v for k, v in options.items()}


@pytest.mark.parametrize("name", registry.names(Runtime))
def test_a_runtime_opens_formats_that_are_made(name):
    formats = registry.load(Runtime, name).formats
    assert formats and set(formats) <= {label.split(":")[0] for label in made_here()}


def test_every_format_can_be_opened():
    opened = {f for name in registry.names(Runtime) for f in registry.load(Runtime, name).formats}
    assert {label.split(":")[0].split("-")[0] for label in made_here()} <= opened


@pytest.mark.parametrize("name", target.names())
def test_a_target_names_runtimes_and_a_meter_that_exist(name):
    device = target.load(name)
    assert set(device.runtimes) <= set(registry.names(Runtime))
    assert device.meter in (*registry.names(Meter), "auto")
    precisions = {label.split(":")[1] for label in made_here()}
    assert set(device.precisions) & precisions


def test_files_with_an_underscore_are_not_parts():
    for kind, folder in registry.FOLDERS.items():
        where = Path(importlib.import_module(f"edgekit.{folder}").__path__[0])
        hidden = {f.stem for f in where.glob("_*.py")} | {f.name for f in where.glob("_*/")}
        assert not hidden & set(registry.names(kind))


@pytest.mark.parametrize("kind", registry.FOLDERS, ids=lambda k: k.__name__)
def test_a_wrong_name_lists_the_right_ones(kind):
    with pytest.raises(EdgekitError, match=f"no {kind.__name__.lower()} 'moon'; there are: .*{registry.names(kind)[0]}"):
        registry.find(kind, "moon")


def test_a_part_of_the_wrong_type_is_refused(tmp_path, monkeypatch):
    (tmp_path / "odd.py").write_text('"""Odd."""\nPART = 3\n')
    folder = importlib.import_module("edgekit.meters")
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    assert "odd" in registry.names(Meter)
    with pytest.raises(EdgekitError, match=r"edgekit\.meters\.odd\.PART must be of type Meter, found int"):
        registry.load(Meter, "odd")
    sys.modules.pop("edgekit.meters.odd")
