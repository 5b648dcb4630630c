"""A bundle run by the C++ runner in a process of its own; arrays go through safetensors files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgekit import files
from edgekit.bundle import Bundle
from edgekit.errors import EdgekitError
from edgekit.parts import Arrays, Session
from edgekit.process_run import Request

RUN_LIMIT_S = 600


def task_words(bundle: Bundle) -> list[str]:
    """What tells the runner which of the bundle's programs is meant; nothing for its own."""
    return ["--task", bundle.task] if bundle.task else []


class CppSession(Session):
    """`command` starts the runner (an emulator before it, where there is one); `options` are handed to each call."""

    def __init__(
        self, bundle: Bundle, command: Sequence[str], options: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> None:
        self._bundle, self._command, self._options = bundle, list(command), list(options)
        self._environment = {**os.environ, **(environment or {})}

    def run(self, inputs: Arrays, seed: int | None = None) -> dict[str, np.ndarray]:
        return self._run(inputs, [] if seed is None else ["--seed", str(seed)])

    def run_pieces(self, inputs: Arrays, sizes: Sequence[int], seed: int | None = None) -> dict[str, np.ndarray]:
        more = ["--chunks", ",".join(map(str, sizes))]
        return self._run(inputs, [*more, *([] if seed is None else ["--seed", str(seed)])])

    def _run(self, inputs: Arrays, more: Sequence[str]) -> dict[str, np.ndarray]:
        self._bundle.manifest.signature.check_inputs(inputs)
        with files.scratch("run") as folder:
            given, answers = Path(folder) / "inputs.safetensors", Path(folder) / "answers.safetensors"
            files.save_tensors(given, inputs)
            self.call(["--input", str(given), "--output", str(answers), *more])
            return files.load_tensors(answers)

    def time_itself(self, request: Request, samples: Path | None) -> dict[str, Any]:
        """By the runner's own loop: nothing of Python is in the times."""
        if request.scenario != "single":
            raise EdgekitError(f"the C++ runner times the scenario 'single' only; for '{request.scenario}' take --runtime onnxruntime or openvino")
        pin = ["--pin", "auto"] if request.threads == 1 else []
        if samples is None:
            said = self.call(["--energy", str(request.energy_seconds), *pin])
        else:
            said = self.call(["--profile", str(request.seconds / request.processes), "--samples", str(samples), *pin])
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found

    def call(self, arguments: Sequence[str]) -> str:
        """Run the runner on the bundle; its standard output. EdgekitError with its own sentence, or how it died."""
        command = [*self._command, str(self._bundle.folder.absolute()), *task_words(self._bundle), *self._options, *arguments]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=RUN_LIMIT_S, env=self._environment, check=False
            )
        except subprocess.TimeoutExpired:
            raise EdgekitError(f"the C++ runner took more than {RUN_LIMIT_S} s and was stopped") from None
        if done.returncode == 1 and "--golden" in arguments:
            return done.stdout  # it says itself what differs
        if done.returncode:
            raise EdgekitError(f"the C++ runner failed: {_reason(done.returncode, done.stderr)}")
        return done.stdout

    def golden(self) -> dict[str, object]:
        """The runner's own comparison with the golden answers."""
        return dict(json.loads(self.call(["--golden"])))


def _reason(code: int, stderr: str) -> str:
    lines = [line for line in stderr.strip().splitlines() if line.strip()]
    number = -code if code < 0 else code - 128  # an emulator reports a signal as a shell does
    if code < 0 or (code > 128 and not any(line.startswith("error: ") for line in lines)):
        try:
            return f"it was ended by {signal.Signals(number).name}"
        except ValueError:
            pass
    said = next((line.removeprefix("error: ") for line in lines if line.startswith("error: ")), None)
    return said or (lines[-1] if lines else f"exit code {code}")
