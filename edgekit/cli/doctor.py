"""`edgekit doctor`."""

from __future__ import annotations

import click

from edgekit.cli._common import json_option, print_json


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Python, processor, libraries, data folder and runtimes of this machine; what is missing, and the command for it."""
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import edgekit
    from edgekit import data, energy, profile, registry
    from edgekit.parts import Meter, Runtime

    libraries = {}
    for name in (
        "numpy",
        "onnx",
        "onnxruntime",
        "torch",
        "openvino",
        "nir",
        "altair",
        "scikit-learn",
        "lightning-fabric",
        "asyncssh",
        "distributed",
    ):
        try:
            libraries[name] = version(name)
        except PackageNotFoundError:
            libraries[name] = "not installed"
    runtimes = {}
    for name in registry.names(Runtime):
        part = registry.load(Runtime, name)
        absent = registry.missing(part)
        runtimes[name] = (
            f"needs {', '.join(absent)}: {registry.install_hint(part)}" if absent else part.ready() or "ready"
        )
    meters = {n: energy.why_not(registry.load(Meter, n)) or "ready" for n in registry.names(Meter)}
    where = {n: str(data.folder(n) or "not here: edgekit data fetch " + n) for n in data.DATASETS}
    facts = {
        "edgekit": edgekit.__version__, "python": platform.python_version(), "system": platform.platform(),
        "processor": profile.device_name(), "load": f"{os.getloadavg()[0]:.1f}", "libraries": libraries, "runtimes": runtimes,
        "meters": meters, "data": where,
    }  # fmt: skip
    if as_json:
        print_json(facts)
        return
    for key, value in facts.items():
        if isinstance(value, dict):
            click.echo(f"{key}:")
            for k, v in value.items():
                click.echo(f"  {k:<18} {v}")
        else:
            click.echo(f"{key:<20} {value}")
