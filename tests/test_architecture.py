"""The rule that holds edgekit together, read from every import: the core names no part, a part names only the core."""

from __future__ import annotations

import ast
import graphlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PART_FOLDERS = {
    "edgekit.models": ROOT / "edgekit/models",
    "edgekit.meters": ROOT / "edgekit/meters",
    "edgekit.runtimes": ROOT / "edgekit/runtimes",
    "edgekit.exporters": ROOT / "exporters",
    "edgekit.calibration": ROOT / "calibration",
    "edgekit.targets": ROOT / "targets",
    "edgekit.examples": ROOT / "examples",
}
FOREIGN = ROOT / "edgekit/runtimes/_lava"  # runs in an environment of its own, with its own Python and libraries
FACE = {"click", "rich"}  # what the command line may import at the top
HEAVY = ("torch", "onnx", "onnxruntime", "onnxscript", "openvino", "nir", "h5py", "altair", "vl_convert", "jinja2", "sklearn", "scipy",
         "lightning_fabric", "PIL", "safetensors")  # fmt: skip
LONGEST_FILE = 400  # lines; above it, split the file by concept
LONGEST_FUNCTION = 70


def sources() -> list[Path]:
    files = [f for folder in ("edgekit", "exporters", "calibration", "targets", "examples") for f in (ROOT / folder).rglob("*.py")]
    return sorted(f for f in files if "__pycache__" not in f.parts)


def folder_of(file: Path) -> str | None:
    """The part folder that a file lies in; None for the core."""
    return next((name for name, folder in PART_FOLDERS.items() if folder in file.parents), None)


def name_of(file: Path) -> str:
    """The module's name once imported."""
    folder = folder_of(file)
    inside = file.relative_to(PART_FOLDERS[folder] if folder else ROOT).with_suffix("").parts
    return ".".join([*([folder] if folder else []), *(x for x in inside if x != "__init__")])


def imports(file: Path, *, only_top: bool = False) -> Iterator[tuple[int, str]]:
    """(line, module) of each import; `from a import b` gives a.b too, since b may be a module. Type checking is left out."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pending.extend(node.orelse)
            continue
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)) and only_top:
            continue
        if isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names)
        if isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = name_of(file).split(".")[: None if file.name == "__init__.py" else -1]
                base = ".".join([*above[: len(above) - node.level + 1], *([base] if base else [])])
            yield node.lineno, base
            yield from ((node.lineno, f"{base}.{a.name}") for a in node.names)
        pending.extend(ast.iter_child_nodes(node))


def inside(module: str, folder: str) -> bool:
    return module == folder or module.startswith(folder + ".")


def where(file: Path, line: int, module: str) -> str:
    return f"{file.relative_to(ROOT)}:{line} imports {module}"


def test_the_core_names_no_part():
    found = [
        where(f, line, m)
        for f in sources() if folder_of(f) is None
        for line, m in imports(f)
        if any(inside(m, p) for p in PART_FOLDERS) or m.split(".")[0] in ("exporters", "targets", "calibration", "examples")
    ]  # fmt: skip
    assert not found


def test_a_part_names_no_other_part():
    """Shared blocks lie in underscore files of the same folder; those may be imported, parts may not."""
    found = []
    for f in sources():
        own = folder_of(f)
        for line, m in imports(f) if own else ():
            root = m.split(".")[0]
            other = next((p for p in PART_FOLDERS if inside(m, p)), None)
            shared = other == own and m.removeprefix(f"{own}.").startswith("_")
            if (other and not shared and m != own) or root in ("exporters", "targets", "calibration", "examples"):
                found.append(where(f, line, m))
    assert not found


def test_only_the_standard_library_numpy_and_the_core_are_imported_at_module_level():
    """Underscore files of a part folder may import their library at the top: the part imports them late (tested below)."""
    found = []
    for f in sources():
        if FOREIGN in f.parents or ROOT / "examples" in f.parents:  # examples are read and run as files, by who has torch
            continue
        folder = folder_of(f)  # underscore files of a part folder, and what lies in its underscore folders, may
        if folder and any(p.startswith("_") and p != "__init__.py" for p in f.relative_to(PART_FOLDERS[folder]).parts):
            continue
        allowed = {"numpy", "edgekit", "__future__"} | (FACE if ROOT / "edgekit/cli" in f.parents else set())
        for line, m in imports(f, only_top=True):
            root = m.split(".")[0]
            if root not in allowed and root not in sys.stdlib_module_names:
                found.append(where(f, line, m))
    assert not found


def test_the_core_has_no_circles():
    known = {name_of(f): f for f in sources() if folder_of(f) is None}
    graph = {name: {m for _, m in imports(f, only_top=True) if m in known and m not in (name, "edgekit")} for name, f in known.items()}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == len(known)


def run_python(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/", env=environment, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_part_loads_while_no_heavy_library_can_be_imported():
    code = f"""
import sys
for name in {HEAVY!r}:
    sys.modules[name] = None
from edgekit import registry
for kind in registry.FOLDERS:
    for name in registry.names(kind):
        part = registry.load(kind, name)
        print(name, *registry.missing(part))
"""
    listed = {line.split()[0]: line.split()[1:] for line in run_python(code).splitlines()}
    assert listed["none"] == []
    assert any(libraries for libraries in listed.values())


def test_import_edgekit_imports_nothing_heavy():
    loaded = set(run_python("import edgekit, sys; print(*sys.modules)").split())
    assert "edgekit" in loaded
    assert not loaded & {*HEAVY, "numpy", "click", "rich"}


def test_no_file_is_longer_than_a_reader_holds():
    long = {str(f.relative_to(ROOT)): n for f in sources() if (n := len(f.read_text().splitlines())) > LONGEST_FILE}
    assert not long, f"split these by concept: {long}"


def test_no_function_is_longer_than_a_screen():
    long = [
        f"{f.relative_to(ROOT)}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for f in sources()
        for node in ast.walk(ast.parse(f.read_text()))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and (node.end_lineno or 0) - node.lineno >= LONGEST_FUNCTION
    ]
    assert not long


def test_every_module_says_what_it_is():
    silent = [str(f.relative_to(ROOT)) for f in sources() if not ast.get_docstring(ast.parse(f.read_text()))]
    assert not silent


@pytest.mark.parametrize(
    ("line", "seen"),
    [
        ("import edgekit.exporters.onnx", "edgekit.exporters.onnx"),
        ("from edgekit import targets", "edgekit.targets"),
        ("def f():\n    from edgekit.models import x", "edgekit.models.x"),
        ("from .models import x", "edgekit.models"),
        ("try:\n    import exporters\nexcept ImportError:\n    pass", "exporters"),
    ],
)
def test_the_reader_of_imports_sees_every_form(tmp_path, monkeypatch, line, seen):
    file = tmp_path / "edgekit" / "planted.py"
    file.parent.mkdir()
    file.write_text(line)
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    assert seen in [m for _, m in imports(file)]
