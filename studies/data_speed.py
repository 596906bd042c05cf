"""Speed and memory of data: `python -m studies.data_speed prepare FOLDER` of `sixfold prepare`, against a bare decoding loop, and
`python -m studies.data_speed batches PREPARED` of batches for a training, pixels stored raw against encoded."""

from __future__ import annotations

import itertools
import json
import math
import resource
import statistics
import tempfile
import time
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import typer

from detection.data.coco import CocoSource
from detection.data.dataset import load_split
from detection.data.pixel_files import open_pixels, pixel_writer
from detection.data.sources import Data
from flows.prepare.stage import prepare
from studies.entry import run_app

INPUT_SIZE, DRAWINGS = (192, 256), 50
BATCH_SIZE, ROUNDS = 8, 5
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command("prepare")
def measure_prepare(folder: Path, pictures: int = 20_000, pixel_cache_bytes: int = Data().pixel_cache_bytes) -> None:
    """Fill the folder once with drawn JPEGs of 640 x 480 and labels; prepare them, then decode and resize them in a loop."""
    if not (folder / "labels.json").is_file():
        _draw(folder, pictures)
    cv2.setNumThreads(1)
    source = CocoSource(root=folder, annotations=Path("labels.json"))
    data = Data(source=source, input_size=INPUT_SIZE, pixel_cache_bytes=pixel_cache_bytes)
    started_s = time.perf_counter()
    prepare(data, Path(), folder / "prepared", 0, print)
    took_s, peak_gb = time.perf_counter() - started_s, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    started_s = time.perf_counter()
    for path in sorted(folder.glob("*.jpg")):
        cv2.resize(cv2.imread(str(path)), INPUT_SIZE[::-1], interpolation=cv2.INTER_AREA)
    bare_s = time.perf_counter() - started_s
    print("| | s | pictures/s | greatest memory, GB |\n|---|---:|---:|---:|")
    print(f"| `sixfold prepare` | {took_s:.1f} | {pictures / took_s:.0f} | {peak_gb:.2f} |")
    print(f"| cv2.imread and cv2.resize | {bare_s:.1f} | {pictures / bare_s:.0f} | |\n\n{bare_s / took_s:.0%} of the loop's speed")


@app.command("batches")
def measure_batches(folder: Path, pictures: int = 200) -> None:
    """Store the first pictures of a prepared folder's train split raw and encoded, and read both in turn, in random order. Seconds
    are those of one core, which neighbours hardly change.
    """
    import torch  # its memory would count as that of `prepare`

    from detection.data.augmentation import Augmentation, batches

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    train = load_split(folder, "train")
    shape, rng = (min(pictures, len(train)), *train.pixels.shape[1:]), np.random.default_rng(0)
    print("| pixels | MB | share of raw | pictures a second of one core | augmented |\n|---|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(prefix="sixfold-speed-") as name:
        for encoded in (False, True):
            with pixel_writer(Path(name), f"{encoded}", shape, encoded=encoded) as write:
                for row in range(shape[0]):
                    write(np.asarray(train.pixels[row]))
        forms = {own: replace(train, pixels=open_pixels(Path(name), f"{own}", shape)) for own in (False, True)}
        seconds: dict[tuple[bool, bool], list[float]] = defaultdict(list)
        for _ in range(ROUNDS):
            for encoded, augmented in itertools.product((False, True), repeat=2):
                order, varied = rng.permutation(shape[0]), Augmentation() if augmented else None
                started_s = time.process_time()
                for _batch in batches(forms[encoded], order, BATCH_SIZE, varied, rng):
                    pass
                seconds[encoded, augmented].append(time.process_time() - started_s)
        for encoded, title in ((False, "raw"), (True, "encoded")):
            size_bytes = next(Path(name).glob(f"{encoded}.*")).stat().st_size
            speeds = (f"{shape[0] / statistics.median(seconds[encoded, augmented]):.0f}" for augmented in (False, True))
            share = size_bytes / math.prod(shape)
            print(f"| {title} | {size_bytes / 1e6:.1f} | {share:.0%} | {' | '.join(speeds)} |")


def _draw(folder: Path, pictures: int) -> None:
    """A few drawings of rectangles, each time with other noise and colours, and their boxes."""
    rng, found = np.random.default_rng(0), []
    folder.mkdir(parents=True, exist_ok=True)
    drawings = rng.integers((0, 0, 20, 20), (500, 340, 140, 140), (DRAWINGS, 5, 4)).tolist()  # x, y, width, height
    for n in range(pictures):
        canvas = cv2.resize(rng.integers(60, 140, (240, 320, 3), np.uint8), (640, 480))
        for box in drawings[n % DRAWINGS]:
            cv2.rectangle(canvas, box, rng.integers(0, 255, 3).tolist(), -1)
            found.append({"image_id": n, "category_id": 1, "bbox": box})
        cv2.imwrite(str(folder / f"{n:06d}.jpg"), canvas)
    images = [{"id": n, "file_name": f"{n:06d}.jpg", "height": 480, "width": 640} for n in range(pictures)]
    labels = {"images": images, "annotations": found, "categories": [{"id": 1, "name": "rectangle"}]}
    (folder / "labels.json").write_text(json.dumps(labels))


if __name__ == "__main__":
    run_app(app, "data speed")
