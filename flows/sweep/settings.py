"""The params sections `measure`, `report` and `check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from detection.boxes import Resize
from detection.evaluation import IOU_THRESHOLD
from detection.frozen import Frozen, PositiveInt, Share
from hardware_profiles.timing.protocol import Protocol

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
        return Protocol.model_validate(self.model_dump(include=set(Protocol.model_fields)))

    def settings(self, resize: Resize = "letterbox") -> dict[str, float | str]:
        """What is needed around the network: how pictures come to the input's size, and the selection of detections."""
        return {**self._selection(), "resize": resize}

    def _selection(self) -> dict[str, float]:
        return self.model_dump(include={"score_threshold", "iou_threshold", "most_detections"})

    def recorded(self) -> dict[str, Any]:
        """What decides a block's numbers besides file and machine; two observations with another one are not comparable."""
        return self.protocol().model_dump() | self._selection() | {"pictures": self.pictures}


def quick(config: Measure) -> Measure:
    """The same settings with QUICK's numbers where those are smaller."""
    return config.model_copy(update={name: min(getattr(config, name), most) for name, most in QUICK.items()})


class Report(Frozen):
    """How cells are recommended and shown."""

    max_drop: Annotated[float, Field(ge=0.0, le=1.0)] = 0.02
    """Permitted loss of val mAP against the control, in shares of 1: 0.02 is two points."""
    pictures: Annotated[int, Field(ge=0)] = 6
    """Test pictures on the page."""
    score_threshold: Share = 0.35
    """Detections below it are not drawn; also the threshold written next to the exported models."""
    iou_threshold: Share = IOU_THRESHOLD
    """Overlap above which a detection gives way to a better one of its class; written next to the exported models."""
    bootstrap_draws: PositiveInt = 1000
    """Draws behind the interval of each difference of test mAP."""
    seed: int = 0
    """Of those draws."""


class Check(Frozen):
    """What counts as a regression."""

    split: Literal["val", "test"] = "test"
    """Whose detections are compared, in the baseline and now."""
    map_drop_points: Annotated[float, Field(gt=0.0, le=100.0)] = 1.0
    """A drop of mAP 50-95 up to this many points (of 100) is accepted."""
    latency_drop_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.05
    """A loss of up to this share of the speedup over the control is accepted: fresh processes differ by less than 5 %."""
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05
    """Chance of a false alarm over all mAP comparisons together, and over all latency comparisons together (Holm)."""
    unconfirmed: Literal["warning", "regression"] = "warning"
    """What a cell counts as that looks slower and cannot be measured again here. The default keeps the promise that the gate calls
    nothing slower on one look; `regression` suits a gate that must not pass while the machine that measures is away."""
    draws: Annotated[int, Field(ge=100)] = 1000
    """Of the bootstrap over pictures."""
    seed: int = 0
    """Of the bootstrap."""
