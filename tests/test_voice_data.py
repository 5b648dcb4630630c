"""Speech that conversion learns from: read as it was recorded, split by speaker, paired without overlap, and phones where they are heard."""

from __future__ import annotations

import csv
import importlib.metadata
import itertools
import os
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile

from edgekit import data
from edgekit.errors import Broken, EdgekitError, Missing
from edgekit.models._voice import corpora, espeak
from edgekit.models._voice.corpora import (
    DATA_SETS,
    HELD_OUT,
    HOP,
    RATE_HZ,
    VALIDATION,
    Clip,
    clips,
    of_part,
    part,
    parts_of,
)
from edgekit.models._voice.generated import PHONES as GENERATED_PHONES
from edgekit.models._voice.generated import generated
from edgekit.models._voice.pairing import digit_strings, pairs
from edgekit.models._voice.words import DIGITS, WORDS

LIBRI_FILES = {"1688": "M", "1998": "F", "367": "F"}


def there(name: str) -> tuple[Clip, ...]:
    if data.folder(name) is None:
        pytest.skip(f"no data: {name} is not on this machine")
    return clips(name)


@pytest.fixture
def fresh():
    """Nothing read before, and nothing of this test read after."""
    clips.cache_clear()
    espeak.synthetic.cache_clear()
    yield
    clips.cache_clear()
    espeak.synthetic.cache_clear()


def decibels(samples: np.ndarray) -> np.ndarray:
    """Of the whole frames."""
    frames = samples[: len(samples) // HOP * HOP].reshape(-1, HOP)
    return 10 * np.log10((frames.astype(np.float64) ** 2).mean(1) + 1e-10)


def crossings(samples: np.ndarray) -> np.ndarray:
    """The share of samples after which the sign changes, of the whole frames."""
    frames = samples[: len(samples) // HOP * HOP].reshape(-1, HOP)
    return (np.diff(np.sign(frames), axis=1) != 0).mean(1)


def periodic(samples: np.ndarray) -> float:
    """The highest normalised autocorrelation at lags of 50 to 400 Hz."""
    centred = samples - samples.mean()
    found = np.correlate(centred, centred, "full")[len(centred) - 1 :]
    return float(found[40:320].max() / (found[0] + 1e-12))


def invented(speakers: dict[str, str], each: int = 6, seconds: float = 1.5, corpus: str = "made", text: str = "") -> list[Clip]:
    rng = np.random.default_rng(len(speakers))
    return [
        Clip(f"{corpus}:{s}", corpus, sex, text or f"s{i}", rng.normal(0, 0.1, int(seconds * RATE_HZ)).astype(np.float32), None, f"{s}-{i}")
        for s, sex in speakers.items()
        for i in range(each)
    ]


# The public data sets


@pytest.mark.parametrize(("name", "count", "minutes", "women", "men"), [("librispeech_mini", 100, 6.3, 5, 5), ("emodb", 79, 2.6, 5, 5), ("fsdd", 1200, 8.7, 0, 6)])
def test_a_data_set_holds_what_it_says(name, count, minutes, women, men):
    found = there(name)
    assert len(found) == count and len({c.name for c in found}) == count
    assert sum(c.seconds for c in found) / 60 == pytest.approx(minutes, abs=0.06)
    assert Counter(sex for _, sex in {(c.speaker, c.sex) for c in found}) == Counter({k: n for k, n in {"F": women, "M": men}.items() if n})
    for clip in found:
        assert clip.corpus == name and clip.samples.dtype == np.float32 and clip.samples.ndim == 1 and clip.phones is None
        assert np.abs(clip.samples).max() <= 1.1 and clip.samples.std() > 1e-4 and not clip.samples.flags.writeable


@pytest.mark.parametrize("name", ["librispeech_mini", "emodb"])
def test_clips_are_the_samples_of_the_recording(name):
    found = {c.name: c for c in there(name)}
    place = data.require(name)
    with (place / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows[::17]:
        start = int(row["start"])
        wanted, rate = soundfile.read(place / f"{row['speaker']}.flac", start=start, stop=start + int(row["length"]), dtype="float32")
        clip = found[row["utterance" if name == "librispeech_mini" else "file"]]
        assert rate == RATE_HZ and np.array_equal(clip.samples, wanted) and clip.sex == row["sex"]
        assert clip.text == row.get("sentence", "")


def test_digits_are_brought_to_16_khz():
    found = {c.name: c for c in there("fsdd")}
    place = data.require("fsdd")
    with (place / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows[::149]:
        start, length = int(row["start"]), int(row["length"])
        own, rate = soundfile.read(place / f"{row['speaker']}.flac", start=start, stop=start + length)
        clip = found[f"{row['digit']}_{row['speaker']}_{row['take']}"]
        assert rate == 8000 and clip.text == row["digit"] and clip.spans == ((0, 2 * length),) and len(clip.samples) == 2 * length
        other = scipy.signal.resample(own, 2 * length)  # by Fourier series: not the filter that edgekit uses
        assert np.corrcoef(other[200:-200], clip.samples[200:-200])[0, 1] > 0.998
        assert np.sqrt(np.mean(clip.samples**2) / np.mean(other**2)) == pytest.approx(1, abs=0.02)


def test_no_speaker_is_in_two_parts_and_both_sexes_are_judged():
    for name in DATA_SETS:
        every = there(name)
        parts = {which: {c.speaker for c in part([name], which)} for which in corpora.PARTS}
        assert all(not a & b for a, b in itertools.combinations(parts.values(), 2))
        assert set().union(*parts.values()) == {c.speaker for c in every}
        assert parts["test"] == HELD_OUT & {c.speaker for c in every} and parts["validation"] == VALIDATION & {c.speaker for c in every}
        both = {c.speaker for c in part([name], "train", with_validation=True)}
        assert both == parts["train"] | parts["validation"]
        if name != "fsdd":
            assert all({c.sex for c in part([name], which)} == {"F", "M"} for which in corpora.PARTS)
    assert len(part(DATA_SETS, "test")) == 30 + 36 + 400
    assert {s.partition(":")[0] for s in HELD_OUT | VALIDATION} == {t.prefix for t in DATA_SETS.values()} and not HELD_OUT & VALIDATION


# Made-up data sets: how damage is told


@pytest.fixture
def libri(tmp_path, monkeypatch, fresh) -> Path:
    """A small librispeech_mini with two clips of three speakers."""
    place = tmp_path / "librispeech_mini"
    place.mkdir()
    rng = np.random.default_rng(0)
    lines = ["speaker,sex,utterance,start,length"]
    for speaker, sex in LIBRI_FILES.items():
        soundfile.write(place / f"{speaker}.flac", rng.integers(-9000, 9000, 3000).astype(np.int16), RATE_HZ)
        lines += [f"{speaker},{sex},{speaker}-0,0,1000", f"{speaker},{sex},{speaker}-1,1000,2000"]
    (place / "index.csv").write_text("\n".join(lines) + "\n")
    monkeypatch.setenv("EDGEKIT_DATA", str(tmp_path))
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path / "cache"))
    return place


def test_a_small_data_set_is_read(libri):
    found = clips("librispeech_mini")
    assert [(c.speaker, c.name, len(c.samples)) for c in found][:2] == [("libri:1688", "1688-0", 1000), ("libri:1688", "1688-1", 2000)]
    assert clips("librispeech_mini") is found
    assert {c.speaker for c in part(["librispeech_mini"], "test")} == {"libri:367"}
    with pytest.raises(EdgekitError, match="librispeech_mini has no speaker in its validation part"):
        part(["librispeech_mini"], "validation")


@pytest.mark.parametrize(
    ("old", "new", "error", "says"),
    [
        ("1998-1,1000,2000", "1998-1,1000,2001", Broken, "samples 1000 to 3001 of 1998, which has 3000"),
        ("1998-1,1000,2000", "1998-1,-1,2000", Broken, "samples -1 to 1999"),
        ("1998-1,1000,2000", "1998-1,1000,0", Broken, "samples 1000 to 1000"),
        ("1998-1,1000,2000", "1998-1,x,2000", Broken, "'x' and '2000' for a start and a length"),
        ("1998-1,1000,2000", "1998-1,1000", Broken, "lacks length in some row"),
        ("speaker,sex", "speaker,gender", Broken, "lacks sex"),
        ("1998,F,1998-0", "1999,F,1998-0", EdgekitError, "has no 1999.flac"),
    ],
)
def test_an_index_that_does_not_fit_is_told(libri, old, new, error, says):
    index = libri / "index.csv"
    text = index.read_text()
    assert old in text
    index.write_text(text.replace(old, new))
    with pytest.raises(error, match=says):
        clips("librispeech_mini")


def test_missing_and_damaged_files_are_told(libri, monkeypatch):
    with pytest.raises(EdgekitError, match="no data set 'emodb' on this machine; set EDGEKIT_DATA"):
        clips("emodb")
    with pytest.raises(EdgekitError, match="no speech data 'nowhere'; there are: emodb, fsdd, librispeech_mini; or give a folder"):
        clips("nowhere")
    (libri / "1998.flac").write_bytes(b"no sound")
    with pytest.raises(EdgekitError, match="1998.flac is no sound file"):
        clips("librispeech_mini")
    (libri / "index.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(Broken, match="index.csv is not a CSV file"):
        clips("librispeech_mini")
    (libri / "index.csv").unlink()
    with pytest.raises(EdgekitError, match="has no index.csv; complete the folder"):
        clips("librispeech_mini")


# A folder of one's own


def tone(seconds: float, rate: int, hz: float = 220.0) -> np.ndarray:
    return 0.3 * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate)) / rate)


@pytest.fixture
def own(tmp_path, fresh) -> Path:
    """Anna: two files in sub-folders; Bert: one long file; Carl: one at another rate, stereo."""
    place = tmp_path / "mine"
    (place / "anna" / "deep").mkdir(parents=True)
    soundfile.write(place / "anna" / "1.wav", tone(2, RATE_HZ), RATE_HZ)
    soundfile.write(place / "anna" / "deep" / "2.ogg", tone(0.5, RATE_HZ), RATE_HZ)
    soundfile.write(place / "bert.flac", tone(8.9, RATE_HZ), RATE_HZ)
    soundfile.write(place / "carl.WAV", np.stack([tone(5, 44100), np.zeros(5 * 44100)], 1), 44100)
    soundfile.write(place / "anna" / ".hidden.wav", tone(2, RATE_HZ), RATE_HZ)
    (place / "notes.txt").write_text("not a sound")
    return place


def test_a_folder_of_ones_own_is_read(own):
    found = clips(str(own))
    assert [(c.speaker, c.name, round(c.seconds, 3)) for c in found] == [
        ("mine:anna", "anna/1.wav#0", 2.0), ("mine:anna", "anna/deep/2.ogg#0", 0.5),
        ("mine:bert", "bert.flac#0", 4.0), ("mine:bert", "bert.flac#1", 4.0),  # 0.9 s are left over
        ("mine:carl", "carl.WAV#0", 4.0), ("mine:carl", "carl.WAV#1", 1.0),
    ]  # fmt: skip
    carl = np.concatenate([c.samples for c in found[4:]])
    assert np.abs(carl - tone(5, RATE_HZ) / 2)[200:-200].max() < 2e-3  # the mean of a tone and silence
    parts = parts_of(found)
    assert Counter(parts.values()) == {"train": 1, "validation": 1, "test": 1} and parts_of(found[::-1]) == parts
    assert {c.speaker for w in corpora.PARTS for c in part([str(own)], w)} == set(parts)


def test_a_folder_that_cannot_be_used_is_told(own, tmp_path):
    (own / "carl.WAV").unlink()
    with pytest.raises(EdgekitError, match="mine has no speaker in its test part: it has 2 in all; give three or more"):
        part([str(own)], "test")
    assert {c.speaker for c in part([str(own)], "train")} == {"mine:anna", "mine:bert"}
    other = tmp_path / "other" / "mine"
    other.mkdir(parents=True)
    soundfile.write(other / "dora.wav", tone(1, RATE_HZ), RATE_HZ)
    with pytest.raises(EdgekitError, match="two corpora are called 'mine'; rename one"):
        part([str(own), str(other)], "train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgekitError, match="holds no sound files; give a sub-folder or a sound file for each speaker"):
        clips(str(tmp_path / "empty"))
    (tmp_path / "a" / "fsdd").mkdir(parents=True)
    with pytest.raises(EdgekitError, match="a folder called 'fsdd' would be taken for the public data set"):
        clips(str(tmp_path / "a" / "fsdd"))
    (own / "bert.flac").write_bytes(b"RIFF")
    clips.cache_clear()
    with pytest.raises(EdgekitError, match="bert.flac is no sound file"):
        clips(str(own))
    with pytest.raises(EdgekitError, match="no part 'tests'; there are: test, train, validation"):
        of_part(invented({"a": "F"}), "tests")


@pytest.mark.parametrize(("speakers", "each"), [(1, 0), (2, 0), (3, 1), (8, 1), (9, 2), (12, 2), (30, 5)])
def test_speakers_are_dealt_once_and_for_all(speakers, each):
    every = invented({f"s{i:02d}": "" for i in range(speakers)}, each=2, seconds=0.01)
    parts = Counter(parts_of(every).values())
    assert parts["test"] == parts["validation"] == each and parts["train"] == speakers - 2 * each
    assert parts_of(every) == parts_of(every[::-1])


# Strings of digits, and pairs


def spoken(seed: int = 0) -> list[Clip]:
    """Two speakers, 23 digits each, all of different lengths, and a clip that is none."""
    rng = np.random.default_rng(seed)
    made = [
        Clip(f"made:{s}", "made", "M", str(i % 10), rng.normal(0, 0.1, 800 + 7 * i).astype(np.float32), None, f"{s}{i}")
        for s in "ab"
        for i in range(23)
    ]
    return [*made, *invented({"a": "M"}, 1)]


def test_digit_strings_say_where_each_digit_lies():
    own = spoken()
    by_name = {c.name: c for c in own}
    made = digit_strings(own, per_string=5, gap_s=0.1, seed=1)
    assert len(made) == 8 and Counter(c.speaker for c in made) == {"made:a": 4, "made:b": 4}
    names = [n for c in made for n in c.name.split("+")]
    assert len(set(names)) == len(names) == 40
    for string in made:
        parts = [by_name[n] for n in string.name.split("+")]
        assert {p.speaker for p in parts} == {string.speaker} and string.text == "".join(p.text for p in parts)
        silent = np.ones(len(string.samples), bool)
        for (start, length), one in zip(string.spans, parts, strict=True):
            assert np.array_equal(string.samples[start : start + length], one.samples)
            silent[start : start + length] = False
        assert silent.sum() == 4 * 1600 and not string.samples[silent].any() and string.phones is None
    again, other = digit_strings(own, seed=1), digit_strings(own, seed=2)
    assert [c.name for c in again] == [c.name for c in made] != [c.name for c in other]
    assert [len(c.spans) for c in digit_strings(own, per_string=23)] == [23, 23] and digit_strings(own, per_string=24) == []


def voices() -> list[Clip]:
    """Two corpora of four speakers; in the second all say the same six sentences."""
    both = {"w": "F", "x": "F", "y": "M", "z": "M"}
    first = [Clip(**{**vars(c), "text": ""}) for c in invented(both, 6, corpus="one")]
    return first + invented(both, 6, corpus="two")


def test_pairs_are_balanced_and_share_nothing():
    made = pairs(voices(), 64, seed=3)
    kinds = Counter((p.source.corpus, p.source.sex, p.prompt[0].sex) for p in made)
    assert len(kinds) == 8 and set(kinds.values()) == {8}
    assert set(Counter(p.source.speaker for p in made).values()) == {8} == set(Counter(p.target for p in made).values())
    for pair in made:
        speakers = [{c.speaker for c in group} for group in ((pair.source, *pair.source_enrolment), (*pair.prompt, *pair.enrolment))]
        assert [len(s) for s in speakers] == [1, 1] and not speakers[0] & speakers[1]
        assert pair.source.corpus == pair.prompt[0].corpus and pair.crosses_sex == (pair.source.sex != pair.prompt[0].sex)
        names = [c.name for c in (*pair.prompt, *pair.enrolment)]
        assert len(set(names)) == 6 and len(pair.prompt) == 2  # 1.5 s are too little, 3 s enough
        assert pair.source.name not in {c.name for c in pair.source_enrolment} and len(pair.source_enrolment) == 5
        assert not pair.source.text or pair.source.text not in {c.text for c in pair.prompt}

    def told(found):
        return [(p.source.name, p.target, [c.name for c in p.prompt]) for p in found]

    assert told(pairs(voices(), 64, seed=3)) == told(made) != told(pairs(voices(), 64, seed=4))
    assert {p.source.corpus == p.prompt[0].corpus for p in pairs(voices(), 64, within="any")} == {True, False}


def test_pairs_need_enough_speech():
    with pytest.raises(EdgekitError, match=r"no two speakers have 2.5 s of speech and another clip"):
        pairs(invented({"a": "F"}, 9), 4)
    with pytest.raises(EdgekitError, match="no two speakers"):
        pairs(invented({"a": "F", "b": "M"}, 2), 4)
    uneven = [Clip(**{**vars(c), "samples": np.zeros(n, np.float32)}) for c, n in zip(invented({"a": "F", "b": "M"}, 2), (16000, 40000) * 2, strict=True)]
    with pytest.raises(EdgekitError, match="no two speakers"):
        pairs(uneven, 4)  # 1 s and 2.5 s: taken in that order, nothing would be left to judge by
    assert all(p.enrolment for p in pairs(uneven, 8, prompt_s=1.0))
    with pytest.raises(EdgekitError, match="within a 'corpus' or 'any' two, not within 'sex'"):
        pairs(voices(), 4, within="sex")


# Generated clips


def test_generated_clips_sound_as_their_phones_say():
    made = generated(60, 6, 0)
    assert len(made) == 60 and len({c.speaker for c in made}) == 6
    level, rough = {p: [] for p in GENERATED_PHONES}, {p: [] for p in GENERATED_PHONES}
    for clip in made:
        assert clip.samples.dtype == np.float32 and len(clip.samples) == HOP * len(clip.phones) and clip.phones.dtype == np.int64
        assert np.sqrt(np.mean(clip.samples**2)) == pytest.approx(0.06, rel=1e-4) and np.abs(clip.samples).max() < 1
        for phone, loud, cross in zip(clip.phones, decibels(clip.samples), crossings(clip.samples), strict=True):
            level[GENERATED_PHONES[phone]].append(loud)
            rough[GENERATED_PHONES[phone]].append(cross)
    assert min(len(v) for v in level.values()) > 50
    assert all(np.median(level[v]) > np.median(level["_"]) + 40 for v in GENERATED_PHONES[1:])
    assert all(np.median(level[v]) > np.median(level[c]) + 3 for v in "aeiou" for c in "mlsf")
    assert all(np.median(rough[n]) > 1.5 * np.median(rough[v]) for n in "sf" for v in "aeiouml")


def test_generated_voices_differ_in_pitch_and_formants():
    made = generated(60, 6, 0)
    vowels = [i for i, p in enumerate(GENERATED_PHONES) if p in "aeiou"]
    pitch, centroid = {}, {}
    for speaker in sorted({c.speaker for c in made}):
        own = [c for c in made if c.speaker == speaker]
        lags, spectra = [], []
        for clip in own:
            for t in np.flatnonzero(np.isin(clip.phones[1:-1], vowels)) + 1:
                if clip.phones[t - 1] == clip.phones[t] == clip.phones[t + 1]:
                    window = clip.samples[(t - 1) * HOP : (t + 2) * HOP].astype(np.float64)
                    found = np.correlate(window, window, "full")[len(window) - 1 :] / np.arange(len(window), 0, -1)
                    lags.append(60 + int(found[60:200].argmax()))
                    spectra.append(np.abs(np.fft.rfft(window)))
        pitch[speaker] = RATE_HZ / np.median(lags)
        mean = np.mean(spectra, 0)
        centroid[speaker] = (mean * np.arange(len(mean))).sum() / mean.sum()
    sexes = {c.speaker: c.sex for c in made}
    assert all(160 < pitch[s] < 250 if sexes[s] == "F" else 85 < pitch[s] < 145 for s in pitch)
    assert len({round(p) for p in pitch.values()}) == 6
    assert np.mean([centroid[s] for s in pitch if sexes[s] == "F"]) > np.mean([centroid[s] for s in pitch if sexes[s] == "M"])


def test_generated_clips_are_the_same_each_time():
    first = generated(4, 2, 5)
    generated.cache_clear()
    again, other = generated(4, 2, 5), generated(4, 2, 6)
    assert all(np.array_equal(a.samples, b.samples) and np.array_equal(a.phones, b.phones) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(first[0].samples[:9000], other[0].samples[:9000])


# Synthetic speech


@pytest.fixture
def talker(tmp_path, monkeypatch, fresh) -> Path:
    """Where espeak-ng is installed, with an empty cache."""
    try:
        importlib.metadata.version("espeakng-loader")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("espeak-ng is not installed: pip install 'edgekit[voice]'")
    monkeypatch.setenv("EDGEKIT_CACHE", str(tmp_path))
    return tmp_path / "voice"


def test_synthetic_phones_are_where_they_are_heard(talker):
    made = espeak.synthetic(48, 0)
    level, rough, tonal = ({p: [] for p in espeak.PHONES} for _ in range(3))
    for clip in made:
        assert clip.samples.dtype == np.float32 and clip.phones.dtype == np.int64 and len(clip.phones) == -(-len(clip.samples) // HOP)
        assert np.abs(clip.samples).max() <= 1 and clip.sex == ("F" if clip.speaker.partition("+")[2] in espeak.WOMEN else "M")
        loud, cross = decibels(clip.samples), crossings(clip.samples)
        assert 20 * np.log10(espeak.LEVEL) == pytest.approx(10 * np.log10(np.mean(10 ** (loud[clip.phones[: len(loud)] > 0] / 10))), abs=1.5)
        for t in range(1, len(loud) - 1):
            name = espeak.PHONES[clip.phones[t]]
            level[name].append(loud[t])
            rough[name].append(cross[t])
            tonal[name].append(periodic(clip.samples[(t - 1) * HOP : (t + 2) * HOP].astype(np.float64)))
    vowels = [p for p in espeak.PHONES if p[0] in "aeiouAEIOUV03@" and len(level[p]) >= 20]
    assert len(vowels) >= 12
    for vowel in vowels:
        assert np.median(level[vowel]) > np.percentile(level["_"], 75) + 6, vowel
        assert np.median(tonal[vowel]) > 0.6 > np.median(tonal["s"]), vowel
        assert np.median(rough["s"]) > 2 * np.median(rough[vowel]), vowel
    assert np.median(level["_"]) < -45


def test_synthetic_voices_keep_their_pitch_and_a_third_says_digits(talker):
    asked = espeak.requests(400, 0)
    by_voice = {v: [a["pitch"] for a in asked if a["voice"] == v] for v in {a["voice"] for a in asked}}
    assert len(by_voice) == espeak.VOICES and all(np.ptp(p) <= 2 * espeak.PITCH_STRAY for p in by_voice.values())
    assert np.ptp([np.mean(p) for p in by_voice.values()]) > 40 and all(20 <= p <= 85 for own in by_voice.values() for p in own)
    assert len({a["text"] for a in asked}) == 400 and all(125 <= a["rate"] <= 200 for a in asked)
    digits = [a for a in asked if set(a["text"].split()) <= set(DIGITS)]
    assert 130 <= len(digits) <= 140 and len({a["voice"] for a in digits}) == espeak.VOICES
    assert espeak.requests(400, 0) == asked != espeak.requests(400, 1) and len(set(WORDS)) > 300
    made = espeak.synthetic(6, 0)
    for clip, said in zip(made, espeak.requests(6, 0), strict=True):
        words = said["text"].split()
        if clip.text:
            assert [DIGITS[int(d)] for d in clip.text] == words and len(clip.spans) == 5
            ends = [start + length for start, length in clip.spans]
            assert [s for s, _ in clip.spans[1:]] == ends[:-1] and ends[-1] == len(clip.samples)
            # "six" begins and ends with an s, and so on: what is heard in a span is what its digit begins with.
            begins = dict(zip(DIGITS, ("z", "w V", "t", "T", "f", "f", "s", "s", "eI", "n"), strict=True))
            for word, (start, length) in zip(words, clip.spans, strict=True):
                heard = [espeak.PHONES[p] for p in clip.phones[start // HOP : (start + length) // HOP] if p][:3]
                assert set(heard) & set(begins[word].split()), (word, heard)
        else:
            assert not set(words) <= set(DIGITS) and clip.spans == ()
    assert sum(bool(c.text) for c in made) == 2


def test_synthetic_speech_is_kept_and_made_again_when_damaged(talker, monkeypatch):
    asked = [{**a, "voice": "en-us+f3"} for a in espeak.requests(2, 7)]  # a voice with breath: espeak-ng draws noise for it
    monkeypatch.setattr(espeak, "requests", lambda count, seed: asked)
    first = espeak.synthetic(2, 7)
    (kept,) = talker.iterdir()
    whole = kept.read_bytes()

    def same(found):
        return all(
            np.array_equal(a.samples, b.samples) and np.array_equal(a.phones, b.phones) and a.spans == b.spans and a.text == b.text
            for a, b in zip(first, found, strict=True)
        )

    espeak.synthetic.cache_clear()
    kept.write_bytes(whole[:5000])
    time.sleep(1.1)  # left alone, its noise begins with the time of day in seconds
    assert same(espeak.synthetic(2, 7)) and kept.read_bytes() == whole
    espeak.synthetic.cache_clear()
    monkeypatch.setattr(espeak, "_spoken", lambda asked: pytest.fail("it was in the cache"))
    assert same(espeak.synthetic(2, 7))


def test_what_espeak_cannot_do_is_told(talker, monkeypatch):
    asked = espeak.requests(2, 0)
    monkeypatch.setattr(espeak, "requests", lambda count, seed: [{**asked[0], "voice": "nobody"}])
    with pytest.raises(EdgekitError, match="espeak-ng failed: espeak-ng has no voice 'nobody'"):
        espeak.synthetic(1, 0)
    monkeypatch.setattr(espeak, "requests", lambda count, seed: asked)
    monkeypatch.setattr(espeak, "LIMIT_S", 1e-3)
    with pytest.raises(EdgekitError, match="espeak-ng took more than 0 s; ask for fewer than 2 utterances"):
        espeak.synthetic(2, 0)
    assert not talker.exists()


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch, fresh):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(Missing, match=r"pip install 'edgekit\[voice\]'"):
        espeak.synthetic(1, 99)


@pytest.mark.parametrize(("name", "phone"), [("'aI", "aI"), (",I2", "I"), ("t[", "t"), ("@2", "@"), ("_:", "_"), ("_", "_"), ("r-", "r"), ("i@3", "i@"), ("a#", "@"), ("IR", "3:"), ("%3:", "3:"), (";", "j"), ("@L", "@L"), ("aI@", "aI")])
def test_espeaks_names_are_brought_to_fifty(name, phone):
    assert espeak.PHONES[espeak.phone_of(name)] == phone
    assert len(set(espeak.PHONES)) == len(espeak.PHONES) == 50 and set(espeak.ALIKE.values()) <= set(espeak.PHONES)


def test_an_unknown_phone_is_told():
    with pytest.raises(Broken, match="names a phone 'Q' that edgekit does not know"):
        espeak.phone_of("Q")


def test_the_child_knows_nothing_of_edgekit():
    """espeak-ng is under the GPL: the two only share files."""
    text = Path(espeak.__file__).with_name("espeak_child.py").read_text()
    imports = {line.split()[1].partition(".")[0] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imports <= {"ctypes", "importlib", "json", "sys", "pathlib", "typing"} and os.sep + "edgekit" not in text
