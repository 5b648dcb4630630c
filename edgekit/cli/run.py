"""`edgekit run BUNDLE`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, print_json


@click.command("run")
@folder_argument("bundle")
@click.option("--input", "inputs", required=True, type=click.Path(path_type=Path), help="An .npz of all inputs by name.")
@click.option("--output", default=None, type=click.Path(path_type=Path), help="An .npz for the answers. Default: printed.")
@click.option("--runtime", default="", help="An engine, see `edgekit parts`. Default: the format's own.")
@click.option("--seed", default=None, type=click.IntRange(min=0), help="Of the program's noise. Default: the bundle's.")
@json_option
def command(bundle: Path, inputs: Path, output: Path | None, runtime: str, seed: int | None, as_json: bool) -> None:
    """Run BUNDLE with its whole loop on inputs of your own; a stream is given in one piece."""
    import io

    import numpy as np

    from edgekit import examine, files
    from edgekit.bundle import open_bundle
    from edgekit.errors import EdgekitError

    opened = open_bundle(bundle)
    try:
        with inputs.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            arrays = {name: packed[name] for name in packed.files}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EdgekitError(f"{inputs} is no .npz of arrays ({error}); write one with numpy.savez, inputs by name") from None
    with examine.runtime_of(opened, runtime).open(opened) as session:
        answers = session.run(arrays, seed)
    if output is not None:
        packed_answers = io.BytesIO()
        np.savez(packed_answers, allow_pickle=False, **answers)
        files.write_bytes(output, packed_answers.getvalue())
    if as_json:
        print_json({n: {"dtype": v.dtype.name, "shape": list(v.shape), "values": v.tolist()} for n, v in answers.items()})
    elif output is not None:
        click.echo(f"answers: {output} ({', '.join(f'{n} {v.dtype} {list(v.shape)}' for n, v in answers.items())})")
    else:
        for name, answer in answers.items():
            click.echo(f"{name} {answer.dtype} {list(answer.shape)}\n{answer}")
