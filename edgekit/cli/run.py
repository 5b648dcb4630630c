"""`edgekit run BUNDLE`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgekit.cli._common import (
    folder_argument,
    json_option,
    opened_bundle,
    print_json,
    signed_option,
    task_option,
    trust_option,
)
from edgekit.cli._fence import behind

if TYPE_CHECKING:
    import numpy as np

    from edgekit.signature import Signature

FILE = click.Path(path_type=Path)


@click.command("run")
@folder_argument("bundle")
@task_option
@click.option("--input", "inputs", type=FILE, help="An .npz of inputs by name: all that the other options do not give.")
@click.option("--text", "texts", multiple=True, metavar="[NAME=]WORDS",
              help="What an input with words is to be, as in 'red, round'; once for each row of the batch. A wrong word lists all.")  # fmt: skip
@click.option("--image", "images", multiple=True, metavar="[NAME=]FILE",
              help="A PNG, JPEG, WebP or GIF as an input that is a picture or a film; once for each row of the batch, or each frame.")  # fmt: skip
@click.option("--value", "values", multiple=True, metavar="NAME=NUMBERS", help="A small input, as in switch=3, swap=0,0,1,1 or tick=0*20.")
@click.option("--wav", type=FILE, help="A sound file as the input that is a sampled signal; answers are cut to be in time with it.")
@click.option("--voice", type=FILE, help="What --make-voice wrote: the inputs that the bundle's preparation makes.")
@click.option("--make-voice", type=FILE, help="Run the preparation alone on this sound file; --output FILE.voice. Default: beside the sound.")
@click.option("--output", "--out", "outputs", multiple=True,
              help="An .npz for the answers; [NAME=]FILE.wav: a sound; .png: a grid of pictures; .gif, .webp: films. Default: printed.")  # fmt: skip
@click.option("--columns", default=0, type=click.IntRange(0, 4096), help="Pictures or films in a row. Default: about square; in a PNG, a film a row.")
@click.option("--fps", default=8, show_default=True, type=click.IntRange(1, 50), help="Frames a second of a GIF or WebP.")
@click.option("--runtime", default="", help="An engine, see `edgekit parts`. Default: the format's own.")
@click.option("--seed", default=None, type=click.IntRange(min=0), help="Of the program's noise. Default: the bundle's.")
@signed_option
@trust_option
@json_option
def command(  # noqa: PLR0913, PLR0917 - the options of the command
    bundle: Path, task: str, inputs: Path | None, texts: tuple[str, ...], images: tuple[str, ...], values: tuple[str, ...],
    wav: Path | None, voice: Path | None, make_voice: Path | None, outputs: tuple[str, ...], columns: int, fps: int, runtime: str,
    seed: int | None, signed_by: Path | None, as_json: bool,
) -> None:  # fmt: skip
    """Run BUNDLE with its whole loop on inputs of your own; a stream is given in one piece."""
    from edgekit import examine, run_files, run_places, voice_file

    opened = opened_bundle(bundle, signed_by).of_task(task)
    behind(opened)
    if make_voice is not None:
        if inputs or texts or images or values or wav or voice or len(outputs) > 1:
            raise click.UsageError("--make-voice makes one voice and runs nothing else: of the other files it takes one --output")
        made = voice_file.make_voice(opened, make_voice, Path(outputs[0]) if outputs else None, runtime)
        if as_json:
            print_json({"voice": str(made)})
        else:
            click.echo(f"voice: {made}; use it: edgekit run {bundle} --voice {made} --wav IN.wav --output OUT.wav")
        return
    places = [run_places.place_of(o, opened) for o in outputs]
    given = run_files.read_inputs(opened, inputs, voice, wav, texts, images, values)
    with examine.runtime_of(opened, runtime).open(opened) as session:
        answers = given.in_time(session.run(given.arrays, seed))
    for place in places:
        place.write(answers, columns, fps)
    _tell(opened.manifest.signature, answers, [str(p.path) for p in places], as_json)


def _tell(signature: Signature, answers: Mapping[str, np.ndarray], paths: list[str], as_json: bool) -> None:
    from edgekit import captions

    words = {t.name: captions.captions(t, answers[t.name]) for t in signature.outputs if t.words and t.name in answers}
    if as_json:
        told = {n: {"dtype": v.dtype.name, "shape": list(v.shape), "values": v.tolist()} for n, v in answers.items()}
        print_json({n: v | ({"words": words[n]} if n in words else {}) for n, v in told.items()})
        return
    if paths:
        click.echo(f"answers: {', '.join(paths)} ({', '.join(f'{n} {v.dtype} {list(v.shape)}' for n, v in answers.items())})")
    for name, answer in answers.items():
        if name in words:
            click.echo(f"{name} {answer.dtype} {list(answer.shape)}\n" + "\n".join(_lines(words[name])))
        elif not paths:
            click.echo(f"{name} {answer.dtype} {list(answer.shape)}\n{answer}")


def _lines(words: Any) -> list[str]:
    """A caption a line."""
    return [words or "(not given)"] if isinstance(words, str) else [line for inner in words for line in _lines(inner)]
