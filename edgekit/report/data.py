"""What a report is drawn from: training rows, bundle rows and candidates of one run, to and from JSON."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from edgekit.candidate import Candidate
from edgekit.device_estimate import DeviceEstimate
from edgekit.errors import Broken, EdgekitError
from edgekit.estimate import Estimate
from edgekit.layer_profile import LayerProfile
from edgekit.measurement import Measurement
from edgekit.recipe import fill


@dataclass(frozen=True)
class TrainingRow:
    """One trained or converted network. spikes_per_neuron: per layer and inference, summed over its steps.

    role: of a spiking family "ann", "stage" or "control"; of any other the "model" that is deployed, or a "baseline" of it.
    """

    label: str
    role: Literal["ann", "stage", "control", "model", "baseline"]
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

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> VerificationRow:
        """Read what verify stored; what a report does not show is left out. Broken when a value is of another type."""
        known = {f.name for f in dataclasses.fields(VerificationRow)}
        row: VerificationRow = _strict(VerificationRow, {k: v for k, v in data.items() if k in known}, "verification")
        return row


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
