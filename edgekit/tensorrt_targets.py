"""Which NVIDIA devices TensorRT builds for, where a plan must be built, and the wishes that none of them can grant."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from edgekit.errors import EdgekitError, no_such

# Compute capability -> the name of TensorRT-RTX 1.7's ComputeCapability. It builds for these on any machine, with no GPU in it.
RTX_CAPABILITIES = {"7.5": "SM75", "8.0": "SM80", "8.6": "SM86", "8.9": "SM89", "12.0": "SM120", "12.1": "SM121"}
# What people ask it for in vain, with the devices that have it.
OTHER_CAPABILITIES = {
    "8.7": "Jetson Orin", "9.0": "H100 and H200", "10.0": "B200", "10.1": "Jetson Thor", "10.3": "B300", "11.0": "Jetson Thor",
}  # fmt: skip
EIGHT_BIT_FLOAT, FOUR_BIT_FLOAT = frozenset({"FLOAT8E4M3FN", "FLOAT8E5M2"}), frozenset({"FLOAT4E2M1"})
DLA_TYPES = frozenset({"FLOAT16", "INT8"})


@dataclass(frozen=True)
class Device:
    """A device whose plans must be built on it. `tensorrt`: the version of its oldest JetPack that is served."""

    name: str
    label: str
    compute_capability: str
    jetpack: str
    tensorrt: str
    has_small_floats: bool  # FP8 and FP4
    has_dla: bool


DEVICES = {
    d.name: d
    for d in (
        Device("orin", "Jetson Orin", "8.7", "JetPack 6.1 or 6.2", "10.3", has_small_floats=False, has_dla=True),
        Device("thor", "Jetson Thor", "11.0", "JetPack 7", "10", has_small_floats=True, has_dla=False),
    )
}


@dataclass(frozen=True)
class Wish:
    """What a user wants built on a device."""

    device: str = "orin"
    tensorrt: str = ""  # empty: the device's own
    dla: bool = False
    calibrator: bool = False


def check_capabilities(asked: Iterable[object], types: Iterable[str]) -> list[str]:
    """The compute capabilities, each once, that TensorRT-RTX builds for. `types`: those of the model's tensors.

    Raises EdgekitError for one that it does not know, or that cannot run the model's types.
    """
    wanted = list(dict.fromkeys(str(a).strip().upper().removeprefix("SM") for a in asked))
    wanted = [f"{w[:-1]}.{w[-1]}" if w.isdigit() and len(w) > 1 else w for w in wanted]  # 86 and SM86 mean 8.6
    for one in wanted:
        if one in RTX_CAPABILITIES:
            continue
        if one in OTHER_CAPABILITIES:
            raise EdgekitError(
                f"compute capability {one} ({OTHER_CAPABILITIES[one]}) was asked for, but TensorRT-RTX builds only for "
                f"{', '.join(RTX_CAPABILITIES)}; a plan for it is built on the device itself: --format tensorrt-kit"
            )
        raise no_such("compute capability", one, RTX_CAPABILITIES)
    for one in wanted:
        check_types(one, types)
    return wanted


def check_types(capability: str, types: Iterable[str]) -> None:
    """Raise EdgekitError when GPUs of a compute capability cannot compute in a type of the model."""
    small = sorted((EIGHT_BIT_FLOAT | FOUR_BIT_FLOAT) & set(types))
    least = 10.0 if FOUR_BIT_FLOAT & set(types) else 8.9  # FP4 came with Blackwell, FP8 with Ada
    if small and float(capability) < least:
        raise EdgekitError(
            f"the model holds {', '.join(small)}, which compute capability {capability} cannot run; "
            f"ask for {least} or later, or export another precision"
        )


def check_wish(wish: Wish, types: Iterable[str]) -> tuple[Device, str]:
    """(device, TensorRT version) of a wish that can be granted; EdgekitError says why one cannot."""
    if wish.device not in DEVICES:
        raise no_such("TensorRT device", wish.device, DEVICES)
    device = DEVICES[wish.device]
    asked = wish.tensorrt or device.tensorrt
    version = _numbers(asked)
    small = sorted((EIGHT_BIT_FLOAT | FOUR_BIT_FLOAT) & set(types))
    if small and not device.has_small_floats:
        raise EdgekitError(
            f"the model holds {', '.join(small)}, but {device.label} (compute capability {device.compute_capability}) has no FP8 and no FP4; "
            "export f16 or int8 for it"
        )
    if version[0] == 11 and _before(version, (11, 4, 1)):
        raise EdgekitError(f"TensorRT {asked} was asked for, but 11.0 to 11.4.0 do not run on JetPack; {device.label} has {device.tensorrt} "
                           f"({device.jetpack}): ask for that, or for 11.4.1")  # fmt: skip
    if device.name == "thor" and version == (10, 3):
        raise EdgekitError("TensorRT 10.3 was asked for, which is JetPack 6's; Jetson Thor needs JetPack 7 with a later 10: say 10")
    if wish.calibrator:
        why = (
            "TensorRT 11 has no INT8 calibrators" if version[0] == 11 else "the kit's networks are strongly typed, and those take no INT8 calibrator"
        )
        raise EdgekitError(f"a calibrator was asked for, but {why}; quantise in the graph instead: a bundle of precision int8")
    if wish.dla:
        _check_dla(device, version, asked, set(types))
    return device, asked


def _check_dla(device: Device, version: Sequence[int], asked: str, types: set[str]) -> None:
    if not device.has_dla:
        raise EdgekitError(f"DLA was asked for, but {device.label} has none; leave it out")
    if len(version) < 2:
        raise EdgekitError(f"DLA was asked for with TensorRT {asked}; say which one, as in 10.3: 10.8 to 11.3 have no DLA")
    if not _before(version, (10, 8)) and _before(version, (11, 4, 1)):
        raise EdgekitError(f"DLA was asked for with TensorRT {asked}, but 10.8 to 11.3 have none; ask for 10.7 or older, or for 11.4.1 on AGX Orin")
    if not types & DLA_TYPES:
        raise EdgekitError("DLA was asked for, but it runs FP16 and INT8 only and the model holds neither; export f16 or int8 first")


def _numbers(version: str) -> tuple[int, ...]:
    parts = version.split(".")
    if not all(p.isdigit() for p in parts) or parts[0] not in ("10", "11"):
        raise EdgekitError(f"TensorRT '{version}' was asked for; edgekit writes for 10 and 11, as in 10.3 or 11.4.1")
    return tuple(int(p) for p in parts)


def _before(version: Sequence[int], other: Sequence[int]) -> bool:
    """True when `version` is older; parts that are not given count as 0."""
    longest = max(len(version), len(other))
    return tuple([*version, *[0] * longest][:longest]) < tuple([*other, *[0] * longest][:longest])
