"""Jobs and hooks for the tests of rounds."""

from __future__ import annotations

import gc
from pathlib import Path

import numpy as np

from hardware_profiles.runtimes.table import Array, Pixels
from hardware_profiles.timing.calls import Hooks, Picture
from hardware_profiles.timing.protocol import Protocol
from hardware_profiles.timing.round import File, HooksOf, Job

PROTOCOL = Protocol(warmup_calls=2, warmup_s=0.0, timed_calls=5, end_to_end_calls=3, most_repeats=0, contention_wait_s=0.0)


class Counted:
    """Hooks that count what they were asked for."""

    def __init__(self) -> None:
        self.before_sizes: list[tuple[int, int]] = []
        self.after_shapes: list[tuple[tuple[int, ...], tuple[int, int]]] = []
        self.collecting: list[bool] = []

    def hooks(self) -> HooksOf:
        return lambda path: Hooks(self.before, self.after)

    def before(self, picture: Picture, size: tuple[int, int]) -> Pixels:
        self.before_sizes.append(size)
        self.collecting.append(gc.isenabled())
        return np.ascontiguousarray(picture[None, : size[0], : size[1]])

    def after(self, outputs: tuple[Array, ...], picture: Picture, size: tuple[int, int]) -> int:
        boxes, _ = outputs
        self.after_shapes.append((boxes.shape, size))
        return len(boxes)


def job(folder: Path, files: dict[str, Path], seed: int = 0, runtime: str = "onnxruntime", protocol: Protocol = PROTOCOL) -> Job:
    """A job over two random pictures."""
    pictures = folder / "pictures.npz"
    random = np.random.default_rng(0)
    np.savez(pictures, *(random.integers(0, 255, (16, 16, 3), dtype=np.uint8) for _ in range(2)))
    return Job(
        runtime=runtime,
        threads=1,
        cores=None,
        files=tuple(File(digest=name, path=str(path)) for name, path in files.items()),
        order_seed=seed,
        protocol=protocol,
        pictures=str(pictures),
        settings={},
        result=str(folder / "result.json"),
    )
