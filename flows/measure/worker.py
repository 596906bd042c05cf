"""One round of measuring in a fresh process: `python -m flows.measure.worker JOB.json`. Started by `flows.measure.host`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import cast

from hardware_profiles.runtimes.table import Array, Pixels
from hardware_profiles.timing.calls import Hooks, Picture
from hardware_profiles.timing.round import HooksOf, Job, pin, run_round


def main(job_file: Path) -> None:
    """Time the job's files in this process and write what was found where the job says."""
    job = Job.model_validate_json(job_file.read_text())
    pin(job.cores, job.threads)
    result = run_round(job, detection_hooks(job))
    Path(job.result).write_text(result.model_dump_json())


def detection_hooks(job: Job) -> HooksOf:
    """Of each file: resizing before the network, and after it the choice of final detections in pixels of the original picture."""
    import cv2  # here, so that its threads are born on the cores the process is pinned to

    from detection.boxes import Detections, Resize, fit_of, fitted, select
    from detection.model_file import reader_of

    cv2.setNumThreads(job.threads)
    score_threshold, iou_threshold = float(job.settings["score_threshold"]), float(job.settings["iou_threshold"])
    most, resize = int(job.settings["most_detections"]), cast(Resize, job.settings["resize"])

    def hooks_of(model: Path) -> Hooks:
        reader = reader_of(model)
        suppressed_above = iou_threshold if reader.select == "nms" else None

        def before(picture: Picture, size: tuple[int, int]) -> Pixels:
            return reader.tensor(fitted(picture, size, resize))

        def after(outputs: tuple[Array, ...], picture: Picture, input_size: tuple[int, int]) -> Detections:
            boxes, scores = reader.boxes_and_scores(outputs, input_size)
            final = select(boxes[0], scores[0], score_threshold, suppressed_above, most)
            fit = fit_of((picture.shape[0], picture.shape[1]), input_size, resize)
            return final._replace(boxes_xyxy_px=fit.to_original(final.boxes_xyxy_px))

        return Hooks(before, after)

    return hooks_of


if __name__ == "__main__":
    main(Path(sys.argv[1]))
