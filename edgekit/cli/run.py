"""`edgekit run BUNDLE`."""

from __future__ import annotations

from pathlib import Path

import click

from edgekit.cli._common import folder_argument, json_option, print_json


@click.command("run")
@folder_argument("bundle")
@click.option("--input", "inputs", required=True, type=click.Path(path_type=Path), help="An .npz of all inputs by name.")
@click.option("--output", "outputs", multiple=True, help="An .npz for the answers; or [NAME=]FILE.png: a grid of pictures. Default: printed.")
@click.option("--columns", default=0, type=click.IntRange(0, 4096), help="Pictures in a row of a PNG. Default: about square.")
@click.option("--runtime", default="", help="An engine, see `edgekit parts`. Default: the format's own.")
@click.option("--seed", default=None, type=click.IntRange(min=0), help="Of the program's noise. Default: the bundle's.")
@json_option
def command(  # noqa: PLR0913 - the options of the command
    bundle: Path, inputs: Path, outputs: tuple[str, ...], columns: int, runtime: str, seed: int | None, as_json: bool
) -> None:
    """Run BUNDLE with its whole loop on inputs of your own; a stream is given in one piece."""
    import io

    import numpy as np

    from edgekit import examine, files, picture_grid
    from edgekit.bundle import open_bundle
    from edgekit.errors import EdgekitError

    opened = open_bundle(bundle)
    places = [_place(o, [t.name for t in opened.manifest.signature.outputs]) for o in outputs]
    try:
        with inputs.open("rb") as file, np.load(file, allow_pickle=False) as packed:
            arrays = {name: packed[name] for name in packed.files}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise EdgekitError(f"{inputs} is no .npz of arrays ({error}); write one with numpy.savez, inputs by name") from None
    with examine.runtime_of(opened, runtime).open(opened) as session:
        answers = session.run(arrays, seed)
    for name, path in places:
        if name:
            try:
                picture_grid.write_png(path, picture_grid.grid(answers[name], columns))
            except EdgekitError as error:
                raise EdgekitError(f"'{name}': {error}") from None
        else:
            packed_answers = io.BytesIO()
            np.savez(packed_answers, allow_pickle=False, **answers)
            files.write_bytes(path, packed_answers.getvalue())
    if as_json:
        print_json({n: {"dtype": v.dtype.name, "shape": list(v.shape), "values": v.tolist()} for n, v in answers.items()})
    elif places:
        told = ", ".join(f"{n} {v.dtype} {list(v.shape)}" for n, v in answers.items())
        click.echo(f"answers: {', '.join(str(path) for _, path in places)} ({told})")
    else:
        for name, answer in answers.items():
            click.echo(f"{name} {answer.dtype} {list(answer.shape)}\n{answer}")


def _place(word: str, outputs: list[str]) -> tuple[str, Path]:
    """(output, file) of [NAME=]FILE.png; no output for an .npz, which holds all of them."""
    from edgekit.errors import EdgekitError, no_such

    if not word.endswith(".png"):
        return "", Path(word)
    name, given, file = word.partition("=")
    if given and name in outputs:
        return name, Path(file)
    if not given and len(outputs) == 1:
        return outputs[0], Path(word)
    if not given:
        raise EdgekitError(f"this bundle has the outputs {', '.join(outputs)}; say which: NAME={word}")
    raise no_such("output", name, outputs)
