"""Trains it on prepared data and writes an ONNX file: `python -m studies.foreign_detector --prepared FOLDER --out FOLDER`.

The file takes planes of RGB shares of 1; its outputs are those of the preset `centernet`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import typer

from studies.entry import run_app

FILE, CLASSES = "foreign.onnx", "classes.txt"
BATCH_SIZE, GRADIENT_NORM = 4, 10.0
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def train(
    prepared: Annotated[Path, typer.Option(help="Folder that `sixfold prepare` wrote.")] = Path("data/prepared"),
    out: Annotated[Path, typer.Option(help="Folder for the file and its classes.")] = Path("foreign"),
    epochs: int = 60,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> None:
    """Train on the train split and export."""
    import numpy as np
    import torch
    from torch import nn

    from detection.data.augmentation import Augmentation, batches
    from detection.data.dataset import load_split
    from flows.progress import steps
    from studies.foreign_detector.network import CenterPoints, loss_of

    torch.manual_seed(seed)
    images, rng = load_split(prepared, "train"), np.random.default_rng(seed)
    network = CenterPoints(len(images.classes)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(network.parameters(), learning_rate, weight_decay=0.02)
    total = epochs * math.ceil(len(images) / BATCH_SIZE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, learning_rate, total_steps=total, pct_start=0.05)
    how = Augmentation(flip_horizontal=0.5, flip_vertical=0.5, scale=0.2)
    for _ in steps(range(epochs), epochs, "foreign detector", "epochs"):
        for batch in batches(images, rng.permutation(len(images)), BATCH_SIZE, how, rng):
            with torch.autocast("cpu", torch.bfloat16):
                found = network(batch.images.contiguous(memory_format=torch.channels_last))
            optimizer.zero_grad(set_to_none=True)
            loss_of(found, batch).backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
            optimizer.step()
            schedule.step()
    out.mkdir(parents=True, exist_ok=True)
    example, outputs = torch.zeros(1, 3, *images.pixels.shape[1:3]), ["heat", "sizes", "offsets"]
    torch.onnx.export(
        network.eval(), (example,), str(out / FILE), dynamo=False, opset_version=17, input_names=["pictures"], output_names=outputs
    )
    (out / CLASSES).write_text("\n".join(images.classes) + "\n")
    print(f"{sum(own.numel() for own in network.parameters()) / 1e6:.2f} M parameters: {out / FILE}")


if __name__ == "__main__":
    run_app(app, "foreign detector")
