"""`sixfold predict`: boxes of any model on any pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import print_table


def predict(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A folder of models/best, a model file, a cell or reference of the sweep, or your own ONNX file with --params.",
        ),
    ],
    images: Annotated[list[str], typer.Argument(metavar="IMAGES", help="Pictures, folders of pictures, patterns.")],
    out: Annotated[Path, typer.Option("--out", help="A new folder for the drawn pictures, or one that an earlier run wrote.")],
    as_json: Annotated[bool, typer.Option("--json", help="Also write DIR/predictions.json.")] = False,
    labels: Annotated[Path | None, typer.Option("--labels", help="COCO labels of these pictures: print mAP.")] = None,
    score: Annotated[
        float | None, typer.Option("--score", min=0.0, max=1.0, help="Least score of a box; else the model card's or the plan's.")
    ] = None,
    iou: Annotated[
        float | None,
        typer.Option(
            "--iou", min=0.0, max=1.0, help="Overlap that suppresses a box of the same class, for drawings and mAP alike."
        ),
    ] = None,
    runtime: Annotated[str | None, typer.Option("--runtime", help="Where there is a choice: onnxruntime or openvino.")] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Of the runtime.")] = 1,
    params: Annotated[
        Path | None, typer.Option("--params", help="The plan of the sweep, or one whose `detector` section describes the file.")
    ] = None,
) -> None:
    """Draw what a model finds in pictures, count it, and time it."""
    print(f"predict: reading {model}", file=sys.stderr, flush=True)
    from flows.predict.command import predict as stage

    stage(
        model, images, out, params=params, runtime=runtime, threads=threads, score=score, iou=iou, labels=labels, as_json=as_json,
        say=print, table=print_table,
    )  # fmt: skip
