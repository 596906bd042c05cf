"""`sixfold quantize`: int8 files of a user's ONNX file from pictures without labels."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import print_table


def quantize(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Your ONNX file.")],
    pictures: Annotated[list[str], typer.Argument(metavar="PICTURES", help="Pictures, folders of pictures, patterns.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the files, or one that an earlier run wrote.")],
    params: Annotated[
        Path | None, typer.Option("--params", help="A plan whose `detector` section says how the file is fed and read.")
    ] = None,
    runtime: Annotated[list[str] | None, typer.Option("--runtime", help="onnxruntime or openvino; may be repeated.")] = None,
    float16: Annotated[bool, typer.Option("--float16", help="Also files with float16 weights.")] = False,
    calibrate: Annotated[
        int | None, typer.Option("--calibrate", min=1, help="How many pictures ranges are taken from; else the plan's or 64.")
    ] = None,
    score: Annotated[
        float | None, typer.Option("--score", min=0.0, max=1.0, help="Least score of what is compared; else the plan's.")
    ] = None,
) -> None:
    """Quantize your own ONNX file without labels, and say how many detections that changes."""
    print(f"quantize: reading {file}", file=sys.stderr, flush=True)
    from flows.quantize.command import quantize as stage

    stage(
        file, pictures, out, params=params, runtimes=runtime or (), float16=float16, calibrate=calibrate, score=score, say=print,
        table=print_table,
    )  # fmt: skip
