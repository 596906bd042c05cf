"""One round of measuring in a fresh process: `python -m flows.measure.worker JOB.json`. Started by `flows.measure.host`."""

from __future__ import annotations

import sys
from pathlib import Path

from hardware_profiles.runtimes.table import Array, Pixels
from hardware_profiles.timing.calls import Hooks, Picture
from hardware_profiles.timing.round import Job, pin, run_round


def main(job_file: Path) -> None:
    """Time the job's files in this process and write what was found where the job says."""
    job = Job.model_validate_json(job_file.read_text())
    pin(job.cores, job.threads)
    result = run_round(job, detection_hooks(job))
    Path(job.result).write_text(result.model_dump_json())


def detection_hooks(job: Job) -> Hooks:
    """Letterboxing before the network, and after it the choice of final detections in pixels of the original picture."""
    import cv2  # here, so that its threads are born on the cores the process is pinned to

    from detection.boxes import Detections, fit_letterbox, letterbox, select
    from detection.evaluation import as_input

    cv2.setNumThreads(job.threads)
    score_threshold, iou_threshold = job.settings["score_threshold"], job.settings["iou_threshold"]
    most = int(job.settings["most_detections"])

    def before(picture: Picture, size: tuple[int, int]) -> Pixels:
        return as_input(letterbox(picture, size))

    def after(boxes: Array, scores: Array, picture: Picture, input_size: tuple[int, int]) -> Detections:
        final = select(boxes[0], scores[0], score_threshold, iou_threshold, most)
        fit = fit_letterbox((picture.shape[0], picture.shape[1]), input_size)
        return final._replace(boxes_xyxy_px=fit.to_original(final.boxes_xyxy_px))

    return Hooks(before, after)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
