"""Tests of the contract suite that authors of families run: ours keeps it, and each way of breaking it is found and named."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from detection.checkpoint import Detector
from detection.compact.family import FAMILY
from detection.costs import _operator_costs
from detection.data.dataset import Images
from detection.family import Family
from detection.testing import CLAIMS, check_family


def test_our_family_keeps_every_claim(tiny_detector: Detector, tiny_train: Images) -> None:
    """All claims, by name."""
    assert check_family(tiny_detector.spec, tiny_train) == tuple(claim.__name__ for claim in CLAIMS)


def _moves_the_generator(spec: Any, seed: int) -> Any:
    torch.rand(1)
    return FAMILY.start(spec, seed)


def _corner_and_size(boxes_xyxy_px: Tensor) -> Tensor:
    return torch.cat([boxes_xyxy_px[..., :2], boxes_xyxy_px[..., 2:] - boxes_xyxy_px[..., :2]], dim=-1)


def _centre_and_size(boxes_xyxy_px: Tensor) -> Tensor:
    first, last = boxes_xyxy_px.split(2, dim=-1)
    return torch.cat([(first + last) / 2, last - first], dim=-1)


def _half_loss(network: Any, batch: Any, *, half: bool, forward: Any = None) -> Any:
    raw, loss = FAMILY.learn(network, batch, half=half, forward=forward)
    return raw, loss.to(torch.bfloat16) if half else loss


def _constant(network: Any, batch: Any, *, half: bool, forward: Any = None) -> Any:
    raw, loss = FAMILY.learn(network, batch, half=half, forward=forward)
    return raw, loss * 0 + 1


def _deaf(network: Any, batch: Any, *, half: bool, forward: Any = None) -> Any:
    return FAMILY.learn(network, batch, half=half)


def _certain(network: Any, batch: Any, *, half: bool, forward: Any = None) -> Any:
    return FAMILY.learn(network, batch._replace(confidence=None), half=half, forward=forward)


def _shifted(network: Any, planes: bool) -> Any:
    exported = FAMILY.exported(network, planes)
    with torch.no_grad():
        exported.points_xyxy_px += 1.0  # type: ignore[attr-defined]
    return exported


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "start moves the generator": ({"start": _moves_the_generator}, "start moves torch's global generator"),
    "scores without a sigmoid": (
        {"decode": lambda network, raw: (FAMILY.decode(network, raw)[0], raw.score_logits)},
        "scores lie outside [0, 1]",
    ),
    "boxes of another shape": (
        {"decode": lambda network, raw: (FAMILY.decode(network, raw)[0][..., :3], FAMILY.decode(network, raw)[1])},
        "not (B, N, 4)",
    ),
    "boxes as a centre and a size": (
        {"decode": lambda network, raw: (_centre_and_size(FAMILY.decode(network, raw)[0]), FAMILY.decode(network, raw)[1])},
        "these look like a place and a size",
    ),
    "boxes as a corner and a size": (
        {"decode": lambda network, raw: (_corner_and_size(FAMILY.decode(network, raw)[0]), FAMILY.decode(network, raw)[1])},
        "these look like a place and a size",
    ),
    "boxes as shares of the picture": (
        {"decode": lambda network, raw: (FAMILY.decode(network, raw)[0] / 96, FAMILY.decode(network, raw)[1])},
        "these look like shares of the picture",
    ),
    "a loss in bfloat16": ({"learn": _half_loss}, "compute it from logits in float32"),
    "a loss that nothing lowers": ({"learn": _constant}, "steps on one batch"),
    "a forward that is ignored": ({"learn": _deaf}, "learn ignores `forward`"),
    "a confidence that is ignored": ({"learn": _certain}, "learn ignores `confidence`"),
    "probabilities as logits": (
        {"points": lambda network, raw: FAMILY.points(network, raw)._replace(score_logits=raw.score_logits.sigmoid())},
        "points' logits are not those of the scores",
    ),
    "an export a pixel off": ({"exported": _shifted}, "exported form's boxes are 1 px off"),
    "nothing protected": ({"protected": lambda network: ()}, "no layer is protected"),
    "a scalar of scores alone": ({"scalar": lambda raw: raw.score_logits.sum()}, "the scalar does not depend on 'heads.0.box'"),
    "costs of half the layers": ({"costs": lambda spec: FAMILY.costs(spec)[::2]}, "multiply-adds, the layers did"),
    "a reason that is no sentence": ({"cannot": lambda spec: {"nas": "no"}}, "in a sentence"),
    "a block that changes the size": (
        {"skippable": lambda network: ("stages.1.0",)},
        "which takes maps (1, 16, 16, 24) and gives (1, 16, 8, 12)",
    ),
    "a part left out in silence": ({"light": None}, "cannot() must say why 'lightweight'"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_promise_is_named(name: str, tiny_detector: Detector, tiny_train: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """One part of the table is wrong: the message says which claim does not hold and what to do."""
    changes, message = BROKEN[name]
    _install(dataclasses.replace(FAMILY, **changes), monkeypatch)
    with pytest.raises(ValueError, match="do not hold") as caught:
        check_family(tiny_detector.spec, tiny_train)
    assert message in str(caught.value)


def _install(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    def give(_spec: Any) -> Family:
        return family

    for module in ("detection.testing", "detection.checkpoint", "detection.costs"):
        monkeypatch.setattr(f"{module}.family_of", give)
    _operator_costs.cache_clear()
