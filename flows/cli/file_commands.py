"""Commands about one detector's file: `sixfold inspect`, `predict` and `quantize`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.cli.options import print_table, refuse


def inspect(
    file: Annotated[Path | None, typer.Argument(help="An ONNX file; by default the plan's `detector.onnx`.")] = None,
    params: Annotated[Path | None, typer.Option("--params", "--data", help="A plan with labelled data.")] = None,
    size: Annotated[
        tuple[int, int] | None, typer.Option("--input-size", help="Height and width in pixels, where the file leaves them open.")
    ] = None,
    write: Annotated[bool, typer.Option("--write", help="Write what was found into the plan.")] = False,
) -> None:
    """Say what a detector's file is, what int8 can reach in it, and how it is fed and read."""
    if file is None and params is None:
        refuse("inspect: name an ONNX file, or a plan with --params.")
    if write and params is None:
        refuse("inspect: --write needs --params, the plan to write into.")
    from flows.inspect.command import inspect as stage

    stage(file, params, size, write, print, print_table)


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
