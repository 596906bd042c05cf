"""What a detector of ours learns from N pictures: `python -m studies.few_pictures RUN --pictures 100`. RUN is the folder of a plan
(runs/bccd) in which `sixfold prepare` has run. Each call trains a network, prints a line and adds it to RUN/few-pictures.jsonl."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
import yaml

from compressors.nas.candidates import val_map_of
from detection.checkpoint import fresh
from detection.data.augmentation import Augmentation
from detection.data.dataset import load_split
from detection.training import fit
from flows.sweep import workspace
from flows.sweep.given_checkpoint import read_start
from flows.sweep.params import read_plan
from studies.entry import run_app

SUBSET_SEED = 0
"""Draws the order of which the first N pictures are taken: fewer pictures are always among the more."""
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def train(
    run: Annotated[Path, typer.Argument(help="Folder of a prepared plan, with its params.yaml.")],
    pictures: Annotated[int, typer.Option(help="Of train; those of val and test are all used.")] = 10**9,
    shown: Annotated[int, typer.Option(help="Pictures that the training sees in all.")] = 12_000,
    augmentation: Annotated[str, typer.Option(help="YAML, over the plan's: '{mosaic: 1.0, scale: 0.5}'.")] = "{}",
    start_from: Annotated[Path | None, typer.Option(help="Folder of a trained detector of ours.")] = None,
    seed: int = 0,
    name: Annotated[str, typer.Option(help="In the line that is kept.")] = "plan",
) -> None:
    """Train by the plan's schedule with these changes, and score on val and test."""
    import torch

    torch.set_num_threads(1)
    plan = read_plan(run / "params.yaml")
    data = {split: load_split(run / workspace.PREPARED, split) for split in ("train", "val", "test")}
    own = data["train"].taking(np.random.default_rng(SUBSET_SEED).permutation(len(data["train"]))[:pictures])
    training, classes, size = plan.params.teacher.training, own.classes, plan.params.data.input_size
    how = Augmentation.model_validate(training.augmentation.model_dump() | yaml.safe_load(augmentation))
    recipe = training.model_copy(update={"augmentation": how, "epochs": max(1, round(shown / len(own)))})
    spec = plan.detector.model_copy(update={"classes": classes})
    start = read_start(start_from, size, classes, seed) if start_from else fresh(spec, seed)
    tell = partial(_tell, name, recipe.epochs)
    trained, record = fit(start, own, recipe, seed=seed, device=torch.device("cpu"), on_epoch=tell)
    found = {split: round(val_map_of(trained.spec, trained.network(), data[split]), 4) for split in ("val", "test")}
    line = {"run": run.name, "name": name, "pictures": len(own), "seed": seed, **found, "train_s": round(record.train_s)}
    print(json.dumps(line), flush=True)
    with (run / "few-pictures.jsonl").open("a") as file:
        file.write(json.dumps(line | {"recipe": recipe.model_dump(mode="json"), "start_from": str(start_from)}) + "\n")


def _tell(name: str, epochs: int, epoch: int, loss: float) -> None:
    if epoch % 10 == 0:
        print(f"{name}: epoch {epoch}/{epochs}, loss {loss:.3f}", flush=True)


if __name__ == "__main__":
    run_app(app, "few pictures")
