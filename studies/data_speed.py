"""Speed and memory of `sixfold prepare`, against a bare decoding loop: `python -m studies.data_speed FOLDER`.

The folder is filled once with drawn pictures of 640 x 480 in JPEG and their COCO labels.
"""

from __future__ import annotations

import json
import resource
import time
from pathlib import Path

import typer

from studies.entry import run_app

INPUT_SIZE, DRAWINGS = (192, 256), 50
app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, help=__doc__)


@app.command()
def measure(folder: Path, pictures: int = 20_000) -> None:
    """Prepare the pictures, then decode and resize them in a loop, and print both."""
    import cv2

    from detection.data.coco import CocoSource
    from detection.data.sources import Data
    from flows.prepare.stage import prepare

    if not (folder / "labels.json").is_file():
        _draw(folder, pictures)
    cv2.setNumThreads(1)
    data = Data(source=CocoSource(root=folder, annotations=Path("labels.json")), input_size=INPUT_SIZE)
    clock_s = [time.perf_counter()]
    prepare(data, Path(), folder / "prepared", 0, print)
    clock_s.append(time.perf_counter())
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
    for path in sorted(folder.glob("*.jpg")):
        cv2.resize(cv2.imread(str(path)), INPUT_SIZE[::-1], interpolation=cv2.INTER_AREA)
    took_s, bare_s = clock_s[1] - clock_s[0], time.perf_counter() - clock_s[1]
    print("| | s | pictures/s | greatest memory, GB |\n|---|---:|---:|---:|")
    print(f"| `sixfold prepare` | {took_s:.1f} | {pictures / took_s:.0f} | {peak_gb:.2f} |")
    print(f"| cv2.imread and cv2.resize | {bare_s:.1f} | {pictures / bare_s:.0f} | |\n\n{bare_s / took_s:.0%} of the loop's speed")


def _draw(folder: Path, pictures: int) -> None:
    """A few drawings of rectangles, each time with other noise, and their boxes."""
    import cv2
    import numpy as np

    rng = np.random.default_rng(0)
    folder.mkdir(parents=True, exist_ok=True)
    boxes = rng.integers((0, 0, 20, 20), (500, 340, 140, 140), (DRAWINGS, 5, 4)).tolist()  # x, y, width, height
    images = [{"id": n, "file_name": f"{n:06d}.jpg", "height": 480, "width": 640} for n in range(pictures)]
    for n in range(pictures):
        noise = rng.integers(0, 40, (240, 320, 3), np.uint8)
        canvas = cv2.add(cv2.resize(noise, (640, 480)), np.full((480, 640, 3), (n % DRAWINGS * 5, 120, 90), np.uint8))
        for box in boxes[n % DRAWINGS]:
            cv2.rectangle(canvas, box, rng.integers(0, 255, 3).tolist(), -1)
        cv2.imwrite(str(folder / f"{n:06d}.jpg"), canvas)
    drawn = [(n, box) for n in range(pictures) for box in boxes[n % DRAWINGS]]
    found = [{"id": k, "image_id": n, "category_id": 1, "bbox": box} for k, (n, box) in enumerate(drawn)]
    labels = {"images": images, "annotations": found, "categories": [{"id": 1, "name": "rectangle"}]}
    (folder / "labels.json").write_text(json.dumps(labels))


if __name__ == "__main__":
    run_app(app, "data speed")
