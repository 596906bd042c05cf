"""The params section `measure`: how latency is measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from detection.frozen import Frozen, PositiveInt, Share
from hardware_profiles.timing.round import Protocol

QUICK = {
    "rounds": 3,
    "timed_calls": 16,
    "end_to_end_calls": 3,
    "warmup_calls": 5,
    "most_repeats": 0,
    "contention_wait_s": 0.0,
    "pictures": 4,
}
"""`sixfold measure --quick`: nothing but smaller numbers, for a look. 3 rounds give no interval, 16 calls no p90."""


class Measure(Frozen):
    """How latency is measured. The defaults take three to five seconds a cell on two host profiles of one server core."""

    profiles: Annotated[tuple[str, ...], Field(min_length=1)] = (
        "x86-onnxruntime-1t",
        "x86-openvino-1t",
        "raspberry-pi-5",
        "jetson-nano",
    )
    """Names of hardware profiles; `sixfold profiles` lists them."""
    profiles_folder: Path | None = None
    """Where more of them lie, of devices of your own; docs/your-device.md shows how to write one."""
    rounds: PositiveInt = 8
    """Fresh processes per profile; the unit of repetition. Fewer than 8 give no interval."""
    timed_calls: PositiveInt = 64
    """Of the network alone, per file and round. Fewer than 64 give no 90th percentile."""
    end_to_end_calls: PositiveInt = 5
    """With letterboxing and selection, per file and round."""
    warmup_calls: PositiveInt = 10
    warmup_s: Annotated[float, Field(ge=0.0)] = 0.02
    """Calls before timing go on until warmup_calls and warmup_s are both reached."""
    most_repeats: Annotated[int, Field(ge=0)] = 2
    """How often a contended block (steal, less than 95 % of the core, calls that spread too far, or another process on the same
    physical core) is timed again."""
    contention_wait_s: Annotated[float, Field(ge=0.0)] = 20.0
    """How long the blocks of a round together wait for such contention to end."""
    pictures: PositiveInt = 8
    """Pictures that the calls take turns with."""
    score_threshold: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.25
    """Of the selection in end-to-end time: what an application shows, not what mAP counts."""
    iou_threshold: Share = 0.6
    most_detections: PositiveInt = 100
    round_timeout_s: Annotated[float, Field(gt=0.0)] = 900.0
    seed: Annotated[int, Field(ge=0)] = 0
    """Orders the files of each round."""

    def protocol(self) -> Protocol:
        """The part of the settings that decides whether two timings are comparable."""
        return Protocol(
            warmup_calls=self.warmup_calls,
            warmup_s=self.warmup_s,
            timed_calls=self.timed_calls,
            end_to_end_calls=self.end_to_end_calls,
            most_repeats=self.most_repeats,
            contention_wait_s=self.contention_wait_s,
        )

    def settings(self) -> dict[str, float]:
        """What the selection after the network needs."""
        return {
            "score_threshold": self.score_threshold,
            "iou_threshold": self.iou_threshold,
            "most_detections": self.most_detections,
        }

    def recorded(self) -> dict[str, Any]:
        """What decides a block's numbers besides file and machine; two observations with another one are not comparable."""
        return self.protocol().model_dump() | self.settings() | {"pictures": self.pictures}


def quick(config: Measure) -> Measure:
    """The same settings with QUICK's numbers where those are smaller."""
    return config.model_copy(update={name: min(getattr(config, name), most) for name, most in QUICK.items()})
