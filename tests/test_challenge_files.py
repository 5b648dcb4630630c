"""PhysioNet 2012 as its makers publish it gives the same stays as the packed files; what is damaged is one sentence."""

from __future__ import annotations

import shutil
import tarfile

import numpy as np
import pytest

from edgekit import data as edgekit_data
from edgekit.errors import EdgekitError

RECORD = """Time,Parameter,Value
00:00,RecordID,{id}
00:00,Age,54
00:00,Gender,0
00:00,Height,-1
00:00,ICUType,4
00:00,Weight,-1
00:07,GCS,15
00:07,HR,{hr}
00:37,HR,77
00:37,Weight,-1
27:05,Temp,35.6
"""


@pytest.mark.parametrize("packed", [True, False], ids=["tar", "folder"])
def test_the_challenges_own_files_give_the_stays_that_the_packed_ones_give(tmp_path, monkeypatch, packed):
    from edgekit.models import _multi_fit_data as data

    folder = tmp_path / "physionet2012"
    (folder / "set-a").mkdir(parents=True)
    for number, hr in ((132540, 90), (132539, 73)):
        (folder / "set-a" / f"{number}.txt").write_text(RECORD.format(id=number, hr=hr))
    (folder / "Outcomes-a.txt").write_text(
        "RecordID,SAPS-I,SOFA,Length_of_stay,Survival,In-hospital_death\n132539,6,1,5,-1,0\n132540,16,8,8,-1,1\n"
    )
    if packed:
        with tarfile.open(folder / "set-a.tar.gz", "w:gz") as tar:
            tar.add(folder / "set-a", "set-a")
        shutil.rmtree(folder / "set-a")
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    data._physionet.cache_clear()
    try:
        stays = data._physionet("a", 0)
    finally:
        data._physionet.cache_clear()
    place = {n: i for i, n in enumerate(stays.signals)}
    assert stays.deaths.tolist() == [0, 1] and stays.steps.tolist() == [3, 3] and len(place) == 37
    assert stays.minutes.tolist() == [7, 37, 1625] * 2
    assert stays.observed.sum(1).tolist() == [2, 1, 1] * 2  # a weight of -1 is no reading
    assert (stays.values[0, place["HR"]], stays.values[3, place["HR"]], stays.values[2, place["Temp"]]) == (73, 90, np.float32(35.6))


@pytest.mark.skipif(edgekit_data.folder("physionet2012") is None, reason="no data: physionet2012")
def test_the_signals_of_the_challenge_are_those_of_the_packed_files():
    from edgekit.models._multi_fit_challenge import SIGNALS

    with np.load(edgekit_data.require("physionet2012") / "set_a.npz") as file:
        assert tuple(file["var_names"]) == SIGNALS


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({}, "neither set_a.npz nor set-a.tar.gz"),
        ({"set-a/1.txt": "Time,Parameter,Value\n"}, "no .*Outcomes-a.txt"),
        ({"set-a/1.txt": "x", "Outcomes-a.txt": "RecordID,In-hospital_death\n1,0\n"}, "does not begin with"),
        ({"set-a/1.txt": "Time,Parameter,Value\n" + "0,a,1\n" * 6 + "soon,HR,3\n", "Outcomes-a.txt": "RecordID,In-hospital_death\n1,0\n"}, "'soon,HR,3'"),
        ({"set-a/1.txt": "x", "Outcomes-a.txt": "RecordID\n1\n"}, "no table of outcomes"),
        ({"set-a/2.txt": "x", "Outcomes-a.txt": "RecordID,In-hospital_death\n1,0\n"}, "no line for stay 2"),
        ({"set-a.tar.gz": "x", "Outcomes-a.txt": "RecordID,In-hospital_death\n1,0\n"}, "no archive"),
    ],
)
def test_a_damaged_set_of_the_challenge_is_one_sentence(tmp_path, files, error):
    from edgekit.models._multi_fit_challenge import read_challenge

    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    if files and "Outcomes-a.txt" not in files:
        error = "there is " + error
    elif not files:
        (tmp_path / "Outcomes-a.txt").write_text("RecordID,In-hospital_death\n1,0\n")
    with pytest.raises(EdgekitError, match=error):
        read_challenge(tmp_path, "a")
