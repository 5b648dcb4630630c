"""The options that say what a model of the user's own is; export and deploy take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

Words = tuple[str, ...]

_OPTIONS = (
    click.option("--state", "states", multiple=True, metavar="OUT:IN", help="An output that is an input of the next step; makes a stream."),
    click.option("--chunk", "chunks", multiple=True, metavar="IN=AXIS:WINDOW[:HOP]", help="Cut an input of the stream into windows."),
    click.option("--constant", "constants", multiple=True, metavar="IN=NUMBER", help="An input that is always this number."),
    click.option("--still", multiple=True, metavar="IN", help="An input of a stream that is given once, at its beginning."),
    click.option("--join", "joins", multiple=True, metavar="OUT=HOW[:AXIS]", help="concat:AXIS, stack:AXIS or last."),
    click.option("--size", "sizes", multiple=True, metavar="NAME=N", help="Fix a free dimension."),
    click.option("--tail", type=click.Choice(["pad", "drop"]), default="pad", show_default=True, help="What is begun at a stream's end."),
    click.option("--example", default="", help="An .npz of golden inputs by name. Default: drawn from the signature."),
    click.option("--tolerance", default=1e-5, show_default=True, type=click.FloatRange(min=0), help="Of floats, times their largest value above 1."),
    click.option("--test", default="", help="An .npz of inputs and `labels`: the score, never used to decide anything."),
    click.option("--trust", is_flag=True, help="You would run a program of whoever made SOURCE: opens .pt2; runs ONNX and bundles without limits."),
    click.option("--calibration", default="", help="An .npz of inputs like those in use: what quantisation looks at."),
)


def own_model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """All of them, in this order in --help."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def own_wishes(states: Words, chunks: Words, constants: Words, joins: Words, sizes: Words, **plain: Any) -> Any:
    """The Wishes that the options say."""
    from edgekit.intake import Wishes
    from edgekit.program import Feed, Join

    def feed(text: str) -> Feed:
        parts = [int(p) for p in text.split(":")]
        if len(parts) not in (2, 3) or min(parts[1:]) < 1 or parts[-1] > parts[1]:
            raise ValueError
        return Feed(parts[0], parts[1], parts[-1])

    def join(text: str) -> Join:
        how, _, axis = text.partition(":")
        if how not in ("concat", "stack", "last") or (how == "last") == bool(axis):
            raise ValueError
        return Join(how, int(axis or 0))  # type: ignore[arg-type]

    def number(text: str) -> float | int:
        return float(text) if set(text) & set(".eEnN") else int(text)

    return Wishes(
        states=_pairs(states, ":", "--state OUT:IN", str), chunks=_pairs(chunks, "=", "--chunk IN=AXIS:WINDOW[:HOP]", feed),
        constants=_pairs(constants, "=", "--constant IN=NUMBER", number), 
        joins=_pairs(joins, "=", "--join OUT=concat:AXIS, OUT=stack:AXIS or OUT=last", join),
        sizes=_pairs(sizes, "=", "--size NAME=N", int), **plain,
    )  # fmt: skip


def _pairs(words: tuple[str, ...], between: str, form: str, of: Any) -> dict[str, Any]:
    made = {}
    for word in words:
        left, _, right = word.rpartition(between) if between == ":" else word.partition(between)
        try:
            made[left] = of(right)
        except ValueError:
            left = ""
        if not left or not right:
            raise click.UsageError(f"'{word}' is not of the form {form}")
    return made
