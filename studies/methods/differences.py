"""Differences of test mAP between any two results of a run. Each result is drawn once; its draws are cached."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.frozen import Digest
from flows.progress import steps
from flows.records.files import file_digest
from flows.records.store import read_detections
from flows.stats.map_bootstrap import NO_DIFFERENCE, Difference, drawn_aps, drawn_difference

DRAWING = 1
"""Raise when `drawn_aps` changes what it gives."""


@dataclass
class Differences:
    """The paired bootstrap over one split's pictures, the same draws for every result."""

    truth: dict[str, Any]
    """COCO ground truth."""
    truth_digest: Digest
    work: Path
    """Where the draws are kept."""
    seed: int
    draws: int
    digests: dict[Path, Digest] = field(default_factory=dict)

    def draw(self, results: Iterable[Path]) -> None:
        """Draw the samples of these detection files; those that are cached are reused."""
        missing = [path for path in dict.fromkeys(results) if not self._kept(path).is_file()]
        if not missing:
            return
        for path in steps(missing, len(missing), "bootstrap", "files"):
            self._aps(path)

    def between(self, a: Path, b: Path) -> Difference:
        """Of mAP, b minus a, as `paired_map_difference` of the two detection files."""
        if self._digest(a) == self._digest(b):
            return NO_DIFFERENCE
        return drawn_difference(self._aps(a), self._aps(b))

    def _aps(self, path: Path) -> NDArray[np.float64]:
        kept = self._kept(path)
        if not kept.is_file():
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(".partial.npy")
            np.save(partial, drawn_aps(self.truth, read_detections(path), seed=self.seed, draws=self.draws, name=str(path)))
            partial.replace(kept)
        aps: NDArray[np.float64] = np.load(kept)
        return aps

    def _kept(self, path: Path) -> Path:
        identity = [DRAWING, version("hotcoco"), self.truth_digest, self._digest(path), self.seed, self.draws]
        return self.work / f"{hashlib.sha256(json.dumps(identity).encode()).hexdigest()}.npy"

    def _digest(self, path: Path) -> Digest:
        if path not in self.digests:
            self.digests[path] = file_digest(path)
        return self.digests[path]
