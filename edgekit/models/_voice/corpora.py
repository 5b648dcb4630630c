"""Recorded speech at 16 kHz, a clip at a time: three public data sets or a folder of one's own, split by speaker.

No speaker is in two parts of a split. The test part is never looked at to choose.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgekit import data
from edgekit.errors import Broken, EdgekitError, no_such
from edgekit.sound import read_sound, resampled

RATE_HZ = 16000
HOP = 320  # samples of a frame: 20 ms
PIECE_S = 4.0  # seconds that longer recordings of a folder are cut into
SHORTEST_S = 1.0  # what is left over after the last piece is dropped when it is shorter
SPLIT_SEED = 20  # of the order in which the speakers of a folder are dealt to the parts; the same for every network and seed
PARTS = ("train", "validation", "test")
SOUNDS = (".wav", ".flac", ".ogg", ".aif", ".aiff")
# The test part is that of the study in the reference notes: both sexes, and of fsdd (only men) two whole voices.
HELD_OUT = frozenset(
    {"libri:367", "libri:533", "libri:2609", "emodb:13", "emodb:14", "emodb:11", "emodb:15", "fsdd:theo", "fsdd:nicolas"}
)
VALIDATION = frozenset({"libri:3331", "libri:3005", "emodb:16", "emodb:10", "fsdd:yweweler"})  # F, M, F, M, M


@dataclass(frozen=True)
class Clip:
    """A piece of speech of one speaker."""

    speaker: str  # "libri:367"; the part before the colon names the corpus
    corpus: str  # librispeech_mini, emodb, fsdd, synthetic, generated, or the name of a folder
    sex: str  # F, M, or empty where it is not known
    text: str  # the digits spoken ("31415"), the sentence's id (emodb: "a01"), or empty where it is not known
    samples: np.ndarray  # float32 (n,), about -1..1 at RATE_HZ
    phones: np.ndarray | None  # int64 (frames,), the phone in each HOP samples; None where it is not known
    name: str  # of the recording, unique within its corpus
    spans: tuple[tuple[int, int], ...] = ()  # start and length in samples of each digit of `text`, where that is known

    @property
    def seconds(self) -> float:
        """How long it lasts."""
        return len(self.samples) / RATE_HZ


@dataclass(frozen=True)
class _Table:
    """How a data set's index.csv names its clips."""

    prefix: str
    rate_hz: int
    columns: tuple[str, ...]  # beside speaker, start and length
    text: str  # the column that says what is spoken; empty: none does
    name: str  # format of a clip's name, from the columns
    sex: str = ""  # of all speakers, where there is no column for it


DATA_SETS = {
    "librispeech_mini": _Table("libri", 16000, ("sex", "utterance"), "", "{utterance}"),
    "emodb": _Table("emodb", 16000, ("sex", "sentence", "file"), "sentence", "{file}"),
    "fsdd": _Table("fsdd", 8000, ("digit", "take"), "digit", "{digit}_{speaker}_{take}", "M"),
}


@lru_cache(maxsize=8)
def clips(name: str) -> tuple[Clip, ...]:
    """All clips of librispeech_mini, emodb, fsdd (brought from 8 to 16 kHz), or of a folder of one's own.

    Of a folder each sub-folder is a speaker, and so is each sound file beside them (WAVE, FLAC, OGG or AIFF at any rate); recordings
    longer than 4 s are cut into pieces of 4 s, of which a last one under 1 s is dropped. The samples are read-only: they are shared.
    Raises Missing without the libraries that read sound, Broken for a data set whose index does not fit its recordings, EdgekitError
    for data that is not on this machine or cannot be read.
    """
    if name in DATA_SETS:
        return _data_set(name, DATA_SETS[name])
    if Path(name).is_dir():
        return _own_folder(Path(name))
    raise no_such("speech data", name, DATA_SETS, "or give a folder that holds a sub-folder or a sound file for each speaker")


def part(names: Iterable[str], which: str, with_validation: bool = False) -> tuple[Clip, ...]:
    """The clips of one part (train, validation or test) of several corpora.

    Training speakers are those in neither other part; `with_validation` adds the validation speakers to the training part, for a
    last fit after all choices are made. Raises EdgekitError as `clips` does, and for a corpus that has no speaker in this part.
    """
    found: list[Clip] = []
    corpora: set[str] = set()
    for name in names:
        own = of_part(clips(name), which, with_validation)
        if own[0].corpus in corpora:
            raise EdgekitError(f"two corpora are called '{own[0].corpus}'; rename one of the folders")
        corpora.add(own[0].corpus)
        found += own
    return tuple(found)


def of_part(every: Sequence[Clip], which: str, with_validation: bool = False) -> tuple[Clip, ...]:
    """The clips of one part of one corpus, wherever they came from; never none: EdgekitError says so instead."""
    if which not in PARTS:
        raise no_such("part", which, PARTS)
    taken = {"train", "validation"} if which == "train" and with_validation else {which}
    parts = parts_of(every)
    found = tuple(c for c in every if parts[c.speaker] in taken)
    if not found:
        corpus = every[0].corpus if every else "the corpus"
        raise EdgekitError(f"{corpus} has no speaker in its {which} part: it has {len(parts)} in all; give three or more")
    return found


def parts_of(every: Sequence[Clip]) -> dict[str, str]:
    """The part of each speaker of one corpus: fixed for the three data sets, otherwise dealt by SPLIT_SEED.

    Of n >= 3 dealt speakers max(1, round(n / 6)) go to the test part, as many to validation; of fewer all are trained on.
    """
    fixed = {c.speaker for c in every if c.corpus in DATA_SETS}
    parts = {s: "test" if s in HELD_OUT else "validation" if s in VALIDATION else "train" for s in fixed}
    dealt = sorted({c.speaker for c in every} - fixed)
    each = max(1, round(len(dealt) / 6)) if len(dealt) >= 3 else 0
    for place, row in enumerate(np.random.default_rng(SPLIT_SEED).permutation(len(dealt))):
        parts[dealt[row]] = "test" if place < each else "validation" if place < 2 * each else "train"
    return parts


def frames_of(samples: np.ndarray) -> int:
    """How many frames of HOP samples cover them; the last one may be filled up with silence."""
    return -(-len(samples) // HOP)


def _data_set(name: str, table: _Table) -> tuple[Clip, ...]:
    place = data.require(name)
    rows = _rows(place / "index.csv", ("speaker", "start", "length", *table.columns))
    found = []
    whole: dict[str, np.ndarray] = {}
    for row in rows:
        speaker = row["speaker"]
        if speaker not in whole:
            path = place / f"{speaker}.flac"
            if not path.is_file():
                raise EdgekitError(f"{place} has no {path.name}; complete the folder from where the data came from")
            whole[speaker] = read_sound(path, table.rate_hz)
        samples = _piece(row, whole[speaker], place / "index.csv")
        # Each clip on its own: a filter over the whole recording would bring its neighbour's first samples into it.
        samples = _frozen(resampled(samples, table.rate_hz, RATE_HZ))
        text = row[table.text] if table.text else ""
        spans = ((0, len(samples)),) if table.text == "digit" else ()
        label = table.name.format(**row)
        found.append(Clip(f"{table.prefix}:{speaker}", name, row.get("sex", table.sex), text, samples, None, label, spans))
    return tuple(found)


def _piece(row: dict[str, str], whole: np.ndarray, index: Path) -> np.ndarray:
    try:
        start, length = int(row["start"]), int(row["length"])
    except ValueError:
        raise Broken(f"{index} gives '{row['start']}' and '{row['length']}' for a start and a length; get it again") from None
    if start < 0 or length < 1 or start + length > len(whole):
        raise Broken(f"{index} names samples {start} to {start + length} of {row['speaker']}, which has {len(whole)}; get both again")
    return whole[start : start + length]


def _own_folder(folder: Path) -> tuple[Clip, ...]:
    corpus = folder.resolve().name
    if corpus in DATA_SETS or corpus in {t.prefix for t in DATA_SETS.values()}:
        raise EdgekitError(f"a folder called '{corpus}' would be taken for the public data set; rename it, or set EDGEKIT_DATA")
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix.lower() in SOUNDS):
        inside = path.relative_to(folder)
        if any(p.startswith(".") for p in inside.parts):
            continue  # what file managers leave behind
        speaker = inside.parts[0] if len(inside.parts) > 1 else path.stem
        for i, piece in enumerate(_pieces(read_sound(path, RATE_HZ))):
            found.append(Clip(f"{corpus}:{speaker}", corpus, "", "", _frozen(piece), None, f"{inside.as_posix()}#{i}"))
    if not found:
        raise EdgekitError(f"{folder} holds no sound files; give a sub-folder or a sound file for each speaker: {', '.join(SOUNDS)}")
    return tuple(found)


def _pieces(samples: np.ndarray) -> list[np.ndarray]:
    size = int(PIECE_S * RATE_HZ)
    cut = [samples[i : i + size] for i in range(0, len(samples), size)]
    return cut[:-1] if len(cut) > 1 and len(cut[-1]) < SHORTEST_S * RATE_HZ else cut


def _frozen(samples: np.ndarray) -> np.ndarray:
    own: np.ndarray = np.array(samples, np.float32)
    own.flags.writeable = False
    return own


def _rows(path: Path, needed: tuple[str, ...]) -> list[dict[str, str]]:
    """The rows of a CSV file that has these columns."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        raise EdgekitError(f"{path.parent} has no {path.name}; complete the folder from where the data came from") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise Broken(f"{path} is not a CSV file ({error}); get it again") from None
    lacking = [c for c in needed if not rows or any(r.get(c) is None for r in rows)]
    if lacking:
        raise Broken(f"{path} lacks {', '.join(lacking)} in some row; get it again")
    return rows
