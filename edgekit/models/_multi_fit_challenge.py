"""PhysioNet 2012 as its makers publish it: `set-a.tar.gz` (or the folder `set-a`) of one text a stay, and `Outcomes-a.txt`."""

from __future__ import annotations

import csv
import tarfile
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

import numpy as np

from edgekit.errors import Broken, EdgekitError

# In the order of the packed files, so that both give the same signals.
SIGNALS = (
    "HR", "MAP", "DiasABP", "SysABP", "Urine", "Weight", "NISysABP", "NIDiasABP", "NIMAP", "Temp", "GCS", "RespRate", "MechVent", "FiO2", "pH",
    "PaCO2", "PaO2", "HCT", "K", "Platelets", "Creatinine", "Mg", "BUN", "Na", "HCO3", "Lactate", "Glucose", "SaO2", "WBC", "Bilirubin", "AST",
    "ALT", "ALP", "Albumin", "TroponinT", "TroponinI", "Cholesterol",
)  # fmt: skip
STATIC = 6  # the first lines of a record, all at 00:00: RecordID, Age, Gender, Height, ICUType and the weight at admission
MISSING = -1.0  # what the challenge writes for an unknown value
LARGEST_RECORD = 1 << 20  # bytes; those of the challenge have some ten thousand


def read_challenge(folder: Path, part: str) -> dict[str, np.ndarray]:
    """dt int16 (minutes since the reading before; the first of a stay since its admission), var uint8, value float32, offsets
    int64 (stays + 1,), var_names, outcomes float32 (stays, 1), outcome_names. Stays are in the order of their number.

    EdgekitError when a file is missing, Broken for a text that is no record.
    """
    deaths = _deaths(folder / f"Outcomes-{part}.txt")
    number_of = {name: i for i, name in enumerate(SIGNALS)}
    minutes, signals, values, offsets, outcomes = [], [], [], [0], []
    for record, text in sorted(_records(folder, part)):
        if record not in deaths:
            raise Broken(f"{folder / f'Outcomes-{part}.txt'} has no line for stay {record}; download it again")
        before = 0
        for minute, name, value in _readings(text, f"{part}: stay {record}"):
            if name not in number_of or value == MISSING:
                continue
            minutes.append(minute - before)
            signals.append(number_of[name])
            values.append(value)
            before = minute
        offsets.append(len(values))
        outcomes.append(deaths[record])
    return {
        "dt": np.array(minutes, np.int16), "var": np.array(signals, np.uint8), "value": np.array(values, np.float32),
        "offsets": np.array(offsets, np.int64), "var_names": np.array(SIGNALS), "outcomes": np.array(outcomes, np.float32)[:, None],
        "outcome_names": np.array(["In-hospital_death"]),
    }  # fmt: skip


def _deaths(path: Path) -> dict[int, int]:
    try:
        with path.open(newline="", encoding="ascii") as file:
            return {int(row["RecordID"]): int(row["In-hospital_death"]) for row in csv.DictReader(file)}
    except FileNotFoundError:
        raise EdgekitError(f"there is no {path}; download it beside the records from physionet.org/content/challenge-2012") from None
    except (KeyError, TypeError, ValueError) as error:
        raise Broken(f"{path} is no table of outcomes ({error}); download it again") from None


def _records(folder: Path, part: str) -> Iterator[tuple[int, str]]:
    unpacked, packed = folder / f"set-{part}", folder / f"set-{part}.tar.gz"
    if unpacked.is_dir():
        yield from ((int(p.stem), p.read_text(encoding="ascii")) for p in unpacked.glob("*.txt") if p.stem.isdigit())
        return
    if not packed.is_file():
        raise EdgekitError(
            f"{folder} holds neither set_{part}.npz nor set-{part}.tar.gz; download the latter and Outcomes-{part}.txt from "
            "physionet.org/content/challenge-2012"
        )
    try:
        with tarfile.open(packed, "r:gz") as tar:
            for member in tar:
                stem = PurePosixPath(member.name).stem
                data = tar.extractfile(member) if member.isreg() and stem.isdigit() and member.size <= LARGEST_RECORD else None
                if data is not None:
                    yield int(stem), data.read().decode("ascii")
    except (tarfile.TarError, EOFError, OSError, UnicodeDecodeError) as error:
        raise Broken(f"{packed} is no archive of records ({error}); download it again") from None


def _readings(text: str, where: str) -> Iterable[tuple[int, str, float]]:
    """(minute, signal, value) of each line after the descriptors."""
    lines = text.splitlines()
    if lines[:1] != ["Time,Parameter,Value"]:
        raise Broken(f"{where} does not begin with Time,Parameter,Value; download the set again")
    for line in lines[1 + STATIC :]:
        try:
            time, name, value = line.split(",")
            hours, minutes = time.split(":")
            yield 60 * int(hours) + int(minutes), name, float(value)
        except ValueError:
            raise Broken(f"{where} has the line {line!r}, which is no time, signal and value; download the set again") from None
