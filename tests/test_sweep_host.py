"""What a sweep hands to a process of its own: plain JSON, which says one of three calls and no code."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edgekit import own_process
from edgekit.intake import Wishes
from edgekit.parts import Calibrator, Exporter
from edgekit.program import Feed, Join
from edgekit.route import Step
from edgekit.sweep import host

WISHES = Wishes(
    states={"out": "in"}, chunks={"x": Feed(1, 320, 160)}, constants={"a": 0.5, "b": True}, still=("s",), joins={"y": Join("concat", 1, 3)},
    sizes={"n": 4}, tail="drop", example="e.npz", test="t.npz", calibration="c.npz", tolerance=1e-3, trust=True,
)  # fmt: skip
CALLS: list[tuple[str, tuple[Any, ...]]] = [
    ("train", ("recipe.toml", "out", (1, 2, 4))), ("train", ("r", "o", ())), ("read", ("m.onnx", WISHES)), ("read", ("module:function", Wishes())),
    ("make", (Step(Exporter, "onnx", "checkpoint", "onnx:f32"), "m \n\u2028'", WISHES, "", "o")),
    ("make", (Step(Calibrator, "percentile", "onnx:f32", "onnx:int8"), "m", Wishes(), "parent", "o")),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), CALLS)
def test_a_call_is_read_back_as_it_was(name: str, arguments: tuple[Any, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[Any, ...]] = []
    monkeypatch.setattr(host, name, lambda *given: heard.append(given))
    text = host.written(name, arguments)
    assert json.loads(text)[0] == name
    host.asked(text)()
    assert heard == [arguments]


@pytest.mark.parametrize("text", ['["verify", "a", "b", 1, 2]', '["make", {"kind": "object", "part": "x", "accepts": "y", "label": "z"}, "s", {}, "", "o"]', '["read"]', "{}"])
def test_what_is_no_call_of_these_calls_nothing(text: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-m", "edgekit.sweep.host"], input=text.encode(), capture_output=True, check=False, cwd=tmp_path,
                          env=own_process.environment())  # fmt: skip
    assert done.returncode != 0 and done.stdout == b"" and not list(tmp_path.iterdir())


def test_nothing_of_edgekit_opens_a_pickle() -> None:
    """By the text of every file: no pickle module, no reader that opens one unless it is told not to."""
    root = Path(host.__file__).parents[2]
    for file in (f for folder in ("edgekit", "exporters", "calibration") for f in (root / folder).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        for word in ("import pickle", "pickle.load", "cloudpickle", "joblib", "torch.load(", "allow_pickle=True", "import shelve", "import marshal"):
            assert word not in text or file.name == "sniff.py", f"{file}: {word}"
