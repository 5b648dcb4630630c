"""Speaks sentences with espeak-ng, in a process of its own: samples and the exact start of each phone, through its C library.

espeak-ng is under the GPL: nothing of edgekit is imported here and nothing of this is imported by edgekit. Started as
`python espeak_child.py REQUEST.json SAMPLES.s16 TIMES.json`; a request is a list of {voice, pitch, rate, text}. SAMPLES.s16 holds all
sentences one after the other as 16-bit samples; TIMES.json {rate_hz, version, sentences: [{samples, phones, words}]}, where phones is a
list of [first sample, espeak's name of the phone] and words a list of first samples.
"""

import ctypes
import importlib
import json
import sys
from pathlib import Path
from typing import Any

SYNCHRONOUS, PHONEME_EVENTS, DONT_EXIT = 2, 0x0001, 0x8000  # speak_lib.h: AUDIO_OUTPUT_SYNCHRONOUS, espeakINITIALIZE_*
WORD, PHONEME = 1, 7  # espeakEVENT_*
RATE, PITCH = 1, 3  # espeakRATE (words a minute), espeakPITCH (0 to 100)
UTF8, CHARACTERS = 1, 1  # espeakCHARS_UTF8, POS_CHARACTER
BUFFER_MS = 200


class _Id(ctypes.Union):
    _fields_ = (("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8))


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    )


class Speaker:
    """espeak-ng, loaded once."""

    def __init__(self) -> None:
        loader = importlib.import_module("espeakng_loader")  # by name: it has no types, and is not installed everywhere
        self.library = ctypes.CDLL(loader.get_library_path())
        place = str(loader.get_data_path()).encode()
        self.rate_hz = int(self.library.espeak_Initialize(SYNCHRONOUS, BUFFER_MS, place, PHONEME_EVENTS | DONT_EXIT))
        if self.rate_hz <= 0:
            raise SystemExit("espeak-ng does not start: its data is not where its package says")
        self.library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # of the breath noise; left alone it is the time of day
        self.library.espeak_Info.restype = ctypes.c_char_p
        self.version = self.library.espeak_Info(None).decode()
        self.samples = bytearray()
        self.phones: list[tuple[int, str]] = []
        self.words: list[int] = []
        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))
        self.heard = kind(self._hear)  # kept: the library calls it as long as it speaks
        self.library.espeak_SetSynthCallback(self.heard)

    def _hear(self, samples: Any, count: int, events: Any) -> int:
        if count > 0:
            self.samples += ctypes.string_at(samples, 2 * count)
        i = 0
        while events[i].type:
            if events[i].type == PHONEME:
                self.phones.append((events[i].sample, bytes(events[i].id.string).decode("utf-8", "replace")))
            elif events[i].type == WORD:
                self.words.append(events[i].sample)
            i += 1
        return 0

    def say(self, voice: str, pitch: int, rate: int, text: str) -> None:
        """One sentence into samples, phones and words."""
        self.samples.clear()
        self.phones.clear()
        self.words.clear()
        if self.library.espeak_SetVoiceByName(voice.encode()):
            raise SystemExit(f"espeak-ng has no voice '{voice}'")
        self.library.espeak_SetParameter(RATE, rate, 0)
        self.library.espeak_SetParameter(PITCH, pitch, 0)
        data = text.encode() + b"\0"
        failed = self.library.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, CHARACTERS, 0, UTF8, None, None)
        if failed or self.library.espeak_Synchronize():
            raise SystemExit(f"espeak-ng did not say '{text}'")


def main(request: Path, samples: Path, times: Path) -> None:
    """Say all of a request."""
    speaker = Speaker()
    sentences = []
    with samples.open("wb") as file:
        for asked in json.loads(request.read_text()):
            speaker.say(**asked)
            file.write(speaker.samples)
            sentences.append({"samples": len(speaker.samples) // 2, "phones": list(speaker.phones), "words": list(speaker.words)})
    times.write_text(json.dumps({"rate_hz": speaker.rate_hz, "version": speaker.version, "sentences": sentences}))


if __name__ == "__main__":
    main(*(Path(a) for a in sys.argv[1:4]))
