"""Checkpoints: what is saved comes back, and what was changed is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from edgekit.checkpoint import MANIFEST, WEIGHTS, Checkpoint, open_checkpoint, save_checkpoint
from edgekit.errors import Broken, EdgekitError

FACTS = {"family": "iir_snn", "name": "digits", "seed": 3, "row": {"score": 0.5, "steps": None}, "recipe": {"a": [1, 2]}}


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.dense = torch.nn.Linear(3, 2)
        self.norm = torch.nn.BatchNorm1d(2)
        self.tied = torch.nn.Linear(3, 2)
        self.tied.weight = self.dense.weight


@pytest.fixture
def saved(tmp_path: Path) -> Checkpoint:
    torch.manual_seed(0)
    return save_checkpoint(tmp_path / "run" / "t1", Net(), FACTS)


def test_weights_and_facts_come_back_as_they_were(saved):
    torch.manual_seed(0)
    want = Net().state_dict()
    opened = open_checkpoint(str(saved.folder))
    assert opened == saved
    assert opened.facts == FACTS
    assert set(opened.state()) == set(want)
    for name, tensor in opened.state().items():
        assert tensor.dtype == want[name].dtype
        assert torch.equal(tensor, want[name])


def test_equal_weights_and_facts_have_equal_hashes_and_others_do_not(saved, tmp_path):
    torch.manual_seed(0)
    assert save_checkpoint(tmp_path / "again", Net(), dict(reversed(FACTS.items()))).sha256 == saved.sha256
    assert save_checkpoint(tmp_path / "other", Net(), FACTS).sha256 != saved.sha256
    torch.manual_seed(0)
    assert save_checkpoint(tmp_path / "facts", Net(), {**FACTS, "seed": 4}).sha256 != saved.sha256


def test_a_checkpoint_holds_safetensors_and_json_and_nothing_else(saved):
    assert {p.name for p in saved.folder.iterdir()} == {MANIFEST, WEIGHTS}
    assert [p.name for p in saved.folder.parent.iterdir()] == ["t1"]
    size = int.from_bytes((saved.folder / WEIGHTS).read_bytes()[:8], "little")
    assert "dense.weight" in json.loads((saved.folder / WEIGHTS).read_bytes()[8 : 8 + size])


def test_saving_replaces_the_checkpoint_that_was_there(saved):
    assert save_checkpoint(saved.folder, Net(), {"name": "second"}).facts == {"name": "second"}


def test_a_folder_without_a_checkpoint_says_how_to_make_one(tmp_path):
    with pytest.raises(EdgekitError, match=r"no checkpoint in .*; make one with `edgekit train RECIPE`"):
        open_checkpoint(tmp_path / "nothing")


@pytest.mark.parametrize("facts", [{"score": float("nan")}, {"folder": Path("x")}, {"bytes": b"x"}])
def test_facts_that_are_not_json_are_refused_before_anything_is_written(tmp_path, facts):
    with pytest.raises(EdgekitError, match="plain JSON values"):
        save_checkpoint(tmp_path / "new", Net(), facts)
    assert not list(tmp_path.iterdir())


def _flip_a_weight(folder: Path) -> None:
    raw = bytearray((folder / WEIGHTS).read_bytes())
    raw[-1] ^= 1
    (folder / WEIGHTS).write_bytes(raw)


def _link_the_weights(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder.parent / "elsewhere")
    (folder / WEIGHTS).symlink_to(folder.parent / "elsewhere")


def _edit(change: Callable[[dict], object]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        data = json.loads((folder / MANIFEST).read_text())
        change(data)
        (folder / MANIFEST).write_text(json.dumps(data))

    return edit


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (_flip_a_weight, "was changed after the checkpoint was made"),
        (_link_the_weights, "was changed after the checkpoint was made"),
        (lambda folder: (folder / WEIGHTS).unlink(), "these differ: model.safetensors"),
        (lambda folder: (folder / "model.pt").write_bytes(b"x"), "these differ: model.pt"),
        (lambda folder: (folder / MANIFEST).write_text("{"), "not JSON"),
        (lambda folder: (folder / MANIFEST).write_text("[]"), "checkpoint format None"),
        (_edit(lambda d: d.update(format_version=99)), "checkpoint format 99, this edgekit reads 1"),
        (_edit(lambda d: d.update(extra=1)), "has the fields"),
        (_edit(lambda d: d.pop("facts")), "has the fields"),
        (_edit(lambda d: d.update(weights_sha256=None)), "has the fields"),
    ],
)
def test_a_checkpoint_that_was_changed_is_refused(saved, harm, says):
    harm(saved.folder)
    with pytest.raises(Broken, match=says):
        open_checkpoint(saved.folder)


def test_edited_facts_show_in_the_hash(saved):
    _edit(lambda d: d["facts"]["row"].update(score=0.99))(saved.folder)
    assert open_checkpoint(saved.folder).sha256 != saved.sha256


def test_weights_that_rot_after_opening_are_refused_when_read(saved):
    (saved.folder / WEIGHTS).write_bytes(b"no safetensors")
    with pytest.raises(Broken, match="not a safetensors file"):
        saved.state()


def test_only_tensors_can_be_stored(tmp_path):
    class Odd(Net):
        def get_extra_state(self) -> str:
            return "text"

    with pytest.raises(EdgekitError, match=r"'_extra_state' of the network is a str; only tensors can be stored"):
        save_checkpoint(tmp_path / "odd", Odd(), {})
    assert not list(tmp_path.iterdir())
