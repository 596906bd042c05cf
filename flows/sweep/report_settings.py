"""What the report section of a params file says."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from detection.evaluation import IOU_THRESHOLD
from detection.frozen import Frozen, PositiveInt, Share


class Report(Frozen):
    """What the report section of params.yaml says."""

    max_drop: Annotated[float, Field(ge=0.0, le=1.0)] = 0.02
    """Permitted loss of val mAP against the control, in shares of 1: 0.02 is two points."""
    pictures: Annotated[int, Field(ge=0)] = 6
    """Test pictures on the page."""
    score_threshold: Share = 0.35
    """Detections below it are not drawn; also the threshold written beside the exported models."""
    iou_threshold: Share = IOU_THRESHOLD
    """Overlap above which a detection gives way to a better one of its class; written beside the exported models."""
    bootstrap_draws: PositiveInt = 1000
    """Draws behind the interval of each difference of test mAP."""
    seed: int = 0
    """Of those draws."""
