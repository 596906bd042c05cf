"""One picture through a model: what it finds in pixels of the original, and how long each part took."""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detection.boxes import Array, Detections, Fit, fit_of, fitted, select
from detection.evaluation import MOST_DETECTIONS
from flows.predict.model import Model


class Times(NamedTuple):
    """Of one picture; without reading and drawing."""

    resizing_s: float
    """With the conversion to what the file takes."""
    network_s: float
    selection_s: float
    """With reading the outputs, and bringing boxes back to the original picture."""


class Seen(NamedTuple):
    """What a model finds in one picture."""

    size: tuple[int, int]
    """(height, width) of the original in pixels."""
    final: Detections
    """In pixels of the original, best first; boxes may reach over its border."""
    times: Times


class Candidates(NamedTuple):
    """All that the file gave for one picture, before the selection."""

    boxes_xyxy_px: Array  # (N, 4), in pixels of the input
    scores: Array  # (N, C)
    fit: Fit


def look(model: Model, pixels: NDArray[np.uint8]) -> tuple[Seen, Candidates]:
    """What the model finds in a picture (height, width, 3), RGB, and what that was selected from."""
    size, input_size = (int(pixels.shape[0]), int(pixels.shape[1])), model.session.input_size
    moments_s = [time.perf_counter()]
    tensor = model.reader.tensor(fitted(pixels, input_size, model.about.resize))
    moments_s.append(time.perf_counter())
    outputs = model.session(tensor)
    moments_s.append(time.perf_counter())
    (boxes,), (scores,) = model.reader.boxes_and_scores(outputs, input_size)
    final = select(boxes, scores, model.about.score_threshold, model.suppressed_above, MOST_DETECTIONS)
    fit = fit_of(size, input_size, model.about.resize)
    final = final._replace(boxes_xyxy_px=fit.to_original(final.boxes_xyxy_px))
    moments_s.append(time.perf_counter())
    real = np.isfinite(final.boxes_xyxy_px).all(1)  # a badly quantized file may give anything
    shown = Detections(final.boxes_xyxy_px[real], final.scores[real], final.labels[real])
    return Seen(size, shown, Times(*np.diff(moments_s).tolist())), Candidates(boxes, scores, fit)
