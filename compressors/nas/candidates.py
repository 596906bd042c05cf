"""The candidates of a search: what they are, and how accuracy and latency of one are found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch

from compressors.latency import estimated_latency
from compressors.nas.supernet import Supernet
from detection.boxes import Array
from detection.compact.blueprint import Architecture, Blueprint
from detection.compact.complexity import count_macs
from detection.compact.network import Network
from detection.data.augmentation import make_batch
from detection.data.dataset import Images
from detection.evaluation import Pixels, accuracy, as_planes, detect
from detection.frozen import InputError
from hardware_profiles.schema.profile import DType, HardwareProfile, ProfileError

Latency = Callable[[Architecture], float]
"""Estimated seconds of an architecture for one picture."""


@dataclass(frozen=True)
class Candidate:
    """One evaluated architecture."""

    architecture: Architecture
    val_map: float
    """With the supernet's weights."""
    latency_s: float

    def as_record(self, blueprint: Blueprint) -> dict[str, Any]:
        """For the node's record; the blueprint gives classes and input size."""
        return {
            "architecture": self.architecture.model_dump(),
            "supernet_val_map": self.val_map,
            "estimated_latency_s": self.latency_s,
            "macs": count_macs(blueprint.model_copy(update={"architecture": self.architecture})),
        }


class Judge:
    """Val mAP of an architecture with the supernet's weights. The same wherever it is asked, so others may ask it elsewhere."""

    def __init__(self, supernet: Supernet, train: Images, val: Images, pictures: tuple[int, int], seed: int) -> None:
        """Pictures are (to recalibrate the normalisations on, to judge by)."""
        rng = np.random.default_rng((seed, 2))
        rows = rng.permutation(len(train))[: pictures[0]]
        self.recalibration = make_batch(train, rows, None, rng).images.to(supernet.device)
        self.val = _first(val, pictures[1])
        self.supernet = supernet

    def __call__(self, architecture: Architecture) -> float:
        """mAP on the val pictures, normalisations recalibrated."""
        network = self.supernet.extract(architecture, self.recalibration)
        return val_map_of(network, self.val)

    @property
    def pictures_each(self) -> int:
        """Pictures that go through the network of one candidate."""
        return len(self.recalibration) + len(self.val)


def latency_on(profile: HardwareProfile, blueprint: Blueprint, dtype: DType) -> Latency:
    """Architecture -> its estimated latency on the profile, with the blueprint's classes and input size.

    Asked of a device that cannot run it, it raises InputError.
    """

    def latency_s(architecture: Architecture) -> float:
        try:
            return estimated_latency(blueprint.model_copy(update={"architecture": architecture}), profile, dtype).point_s
        except ProfileError as error:
            raise InputError(f"nas.latency_in: no estimate in {dtype}: {error}. Name another design profile.") from error

    return latency_s


def val_map_of(network: Network, val: Images) -> float:
    """mAP of a network in evaluation mode on these pictures, each by itself, as a runtime would see them."""
    return accuracy(val.ground_truth, detect(partial(_infer, network), val)).map_50_95


def _infer(network: Network, picture: Pixels) -> tuple[Array, Array]:
    planes = torch.from_numpy(as_planes(picture[0])).to(network.points_px.device)
    with torch.no_grad():
        boxes, scores = network.decode(network(planes))
    return boxes.cpu().numpy(), scores.cpu().numpy()


def _first(images: Images, count: int) -> Images:
    """The first pictures of a split, ground truth included."""
    if count >= len(images):
        return images
    ids = set(images.picture_ids[:count])
    truth = images.ground_truth
    return Images(
        split=images.split,
        pixels=images.pixels[:count],
        boxes_xyxy_px=images.boxes_xyxy_px[:count],
        labels=images.labels[:count],
        picture_ids=images.picture_ids[:count],
        letterboxes=images.letterboxes[:count],
        classes=images.classes,
        ground_truth=truth
        | {
            "images": [picture for picture in truth["images"] if picture["id"] in ids],
            "annotations": [annotation for annotation in truth["annotations"] if annotation["image_id"] in ids],
        },
        digest=images.digest,
    )
