"""Detectors of the transformers library, small, with random weights; files that need them are skipped where it is not installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from detection.brought import TransformersDetector
from detection.checkpoint import Detector, fresh
from flows.sweep.given_network import network_spec
from tests.places import ROOT

NEEDS_TRANSFORMERS = pytest.mark.skipif(
    importlib.util.find_spec("transformers") is None, reason='needs the extra: pip install "sixfold[transformers]"'
)
SMALL = ("rt_detr_v2_small", "d_fine_small")
"""Folders of examples/."""


def asked(name: str, **settings: object) -> TransformersDetector:
    """A detector of examples/, as a plan there names it, to be trained."""
    return TransformersDetector.model_validate({"transformers": name, "train": True, **settings})


def small_detector(name: str, like: Detector, seed: int = 0) -> Detector:
    """One of SMALL with random weights, for the pictures and classes of another."""
    return fresh(network_spec(asked(name), ROOT / "examples", like.spec.input_size, like.spec.classes), seed)


def first_version(folder: Path) -> TransformersDetector:
    """RT-DETR of the same sizes as RT-DETRv2, to be trained, in a folder."""
    own = copied(SMALL[0], folder)
    config = json.loads((own / "config.json").read_text())
    (own / "config.json").write_text(json.dumps(config | {"model_type": "rt_detr"}))
    return asked(str(own))


def copied(name: str, folder: Path) -> Path:
    """A copy of one of SMALL in a folder, to be changed."""
    return Path(shutil.copytree(ROOT / "examples" / name, folder / name))


def deeper(name: str, folder: Path) -> TransformersDetector:
    """One of SMALL with three decoder layers and a second block in a stage of its backbone, to be trained, in a folder."""
    own = copied(name, folder)
    config = json.loads((own / "config.json").read_text())
    depths = "stage_num_blocks" if name.startswith("d_fine") else "depths"
    backbone = config["backbone_config"] | {depths: [1, 2, 1, 1]}
    (own / "config.json").write_text(json.dumps(config | {"decoder_layers": 3, "backbone_config": backbone}))
    return asked(str(own))
