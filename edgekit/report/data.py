"""What a report is drawn from: training rows, bundle rows and candidates of one run, to and from JSON."""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgekit.candidate import Candidate
from edgekit.device_estimate import DeviceEstimate
from edgekit.errors import Broken, EdgekitError
from edgekit.estimate import Estimate
from edgekit.layer_profile import LayerProfile
from edgekit.measurement import Measurement
from edgekit.picture_grid import size_of_png
from edgekit.recipe import fill

FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.png", re.ASCII)
LARGEST_PICTURE = 150_000  # bytes; a grid of 100 avatars takes about 30,000


@dataclass(frozen=True)
class TrainingRow:
    """One trained or converted network. spikes_per_neuron: per layer and inference, summed over its steps.

    role: of a spiking family "ann", "stage", "control", or "teacher" of an ANN that only taught; of any other the "model" that is
    deployed, or a "baseline" of it.
    """

    label: str
    role: Literal["ann", "stage", "control", "teacher", "model", "baseline"]
    steps: int | None
    score: float
    validation: float | None
    epochs: int
    seconds: float
    spikes_per_neuron: Mapping[str, float]
    estimates: tuple[Estimate, ...]

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> TrainingRow:
        """Read one row of a result.json; Broken when it is not one."""
        row: TrainingRow = _strict(TrainingRow, data, "training row")
        return row


@dataclass(frozen=True)
class FamilyTable:
    """What a family says of its training in its own words: a table of result.json."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str | int | float | None, ...], ...]  # as many values as columns
    caption: str

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(f"table '{self.title}' has {len(self.columns)} columns and a row of {len(row)} values")

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> FamilyTable:
        """Read a table of a result.json; Broken when it is not one."""
        table: FamilyTable = _strict(FamilyTable, data, "table of a family")
        return table


@dataclass(frozen=True)
class Picture:
    """What a family shows of its training: a PNG of result.json ("pictures": title, file, caption), with its content."""

    title: str
    file: str  # a plain name, of a file beside result.json and beside report.md
    caption: str
    png: str  # the file's bytes as base64

    def __post_init__(self) -> None:
        if not FILE_NAME.fullmatch(self.file):
            raise ValueError(f"the file of picture '{self.title}' must be a plain name such as samples-4.png, found '{self.file}'")
        if len(self.png) > 4 * LARGEST_PICTURE // 3:
            raise ValueError(f"{self.file} is larger than {LARGEST_PICTURE:,} bytes; show fewer or smaller pictures")
        self.size()

    def content(self) -> bytes:
        """The PNG file."""
        return base64.b64decode(self.png, validate=True)

    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        try:
            return size_of_png(self.content())
        except (ValueError, EdgekitError):
            raise ValueError(f"{self.file} is no PNG") from None

    @staticmethod
    def read(data: Mapping[str, Any], folder: Path) -> Picture:
        """A picture of a result.json in `folder`; Broken when it is not one, or its file is not there."""
        try:
            png = (folder / str(data.get("file"))).read_bytes() if FILE_NAME.fullmatch(str(data.get("file"))) else b""
        except OSError as error:
            raise Broken(f"the picture {data.get('file')} of result.json cannot be read ({error}); train again, what is trained is kept") from None
        picture: Picture = _strict(Picture, {**data, "png": base64.b64encode(png).decode()}, "picture")
        return picture


@dataclass(frozen=True)
class VerificationRow:
    """What one runtime answered, held against the trained network."""

    runtime: str
    passed: bool
    output_max_abs: float | None
    output_mean_abs: float | None
    spikes_compared: int
    spike_flips: int | None
    spike_flips_near: int | None
    exact_mismatches: int | None
    score: float | None
    score_reference: float | None
    score_samples: int
    failures: tuple[str, ...]
    note: str
    sqnr_db: float | None = None
    same_share: float | None = None

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> VerificationRow:
        """Read what verify stored; what a report does not show is left out. Broken when a value is of another type."""
        known = {f.name for f in dataclasses.fields(VerificationRow)}
        row: VerificationRow = _strict(VerificationRow, {k: v for k, v in data.items() if k in known}, "verification")
        return row


@dataclass(frozen=True)
class TaskRow:
    """Another task of a bundle, with what was found out about it."""

    name: str
    verifications: tuple[VerificationRow, ...]
    measurements: tuple[Measurement, ...]
    device_estimates: tuple[DeviceEstimate, ...] = ()


@dataclass(frozen=True)
class BundleRow:
    """One bundle with everything that was found out about it."""

    label: str
    format: str
    precision: str
    folder: str
    bytes_total: int
    sha256: str
    verifications: tuple[VerificationRow, ...]
    measurements: tuple[Measurement, ...]
    estimates: tuple[Estimate, ...]
    imported: tuple[Measurement, ...] = ()  # by other tools, on other machines
    layers: tuple[LayerProfile, ...] = ()  # one an engine and number of threads
    device_estimates: tuple[DeviceEstimate, ...] = ()  # of targets that did not run it, and of the host
    model: str = ""  # the name of what was exported
    steps: int | None = None  # timesteps of the trained network
    task: str = ""  # of the bundle's own program, where it has others
    tasks: tuple[TaskRow, ...] = ()  # the others


@dataclass(frozen=True)
class Run:
    """A run folder or a sweep, as a report shows it. See `swept`."""

    name: str
    family: str
    score_name: str
    test_samples: int
    training: tuple[TrainingRow, ...]
    bundles: tuple[BundleRow, ...]
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    notes: tuple[str, ...]
    candidates: tuple[Candidate, ...] = ()  # what is to be decided between
    family_tables: tuple[FamilyTable, ...] = ()
    pictures: tuple[Picture, ...] = ()
    swept: bool = False  # by a sweep: of its candidates, only those that were measured and lie on a front are among the bundles

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> Run:
        """Read what to_json wrote; Broken, with the field, when a key is unknown or missing or a value is of another type."""
        run: Run = _strict(Run, data, "run")
        return run


def _strict(cls: type, data: Any, where: str) -> Any:
    if not isinstance(data, Mapping):
        raise Broken(f"{where} must be a table, found {data!r}")
    try:
        return fill(cls, data, where)
    except EdgekitError as error:
        raise Broken(f"not what edgekit wrote: {error}; make it again with `edgekit report`") from None
