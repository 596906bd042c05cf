"""`sixfold init`: a plan for a folder of labelled pictures."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer


def init(
    folder: Annotated[Path, typer.Argument(help="A folder, or a zip or tar, of pictures with YOLO, COCO or Pascal VOC labels.")],
    detector: Annotated[
        Path | None, typer.Option("--detector", help="Yours: an ONNX file, or a folder with a trained one of ours.")
    ] = None,
    device: Annotated[
        str | None, typer.Option("--device", help="The device it is for, a name that `sixfold profiles` lists; else asked.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", help="The plan to write; by default named as the folder, in plans/ of a checkout.")
    ] = None,
    calibrate: Annotated[
        bool | None, typer.Option("--calibrate/--no-calibrate", help="Time this machine now, which takes minutes; else asked.")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a plan that is there.")] = False,
) -> None:
    """Write a plan for your pictures, detector and device, every setting with its reason, and say the next command."""
    print(f"init: reading {folder}", file=sys.stderr, flush=True)
    from flows.init.command import init as stage

    asks = sys.stdin.isatty()
    stage(
        folder, detector=detector, device=device, out=out, calibrate=calibrate, force=force, say=print,
        choose=_choose if asks else None, agree=_agree if asks else None,
    )  # fmt: skip


def _choose(names: list[str]) -> str:
    for number, name in enumerate(names, 1):
        print(f"{number:3} {name}")
    while not 1 <= (number := typer.prompt("The device it is for", default=1, type=int)) <= len(names):
        print(f"1 to {len(names)}")
    return names[number - 1]


def _agree(minutes: int) -> bool:
    question = f"Time this machine now and fit profiles to it? About {minutes} minutes, best with nothing else running"
    return typer.confirm(question, default=False)
