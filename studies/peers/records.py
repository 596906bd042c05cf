"""What the study keeps: a network or a file of other tools, what it took, and all of them with their latency."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from detection.frozen import Digest, Frozen
from flows.records.schema import ArtifactRecord, BudgetRecord, CellRecord, CellsFile, DatasetRecord, LatencyFile
from flows.stats.map_bootstrap import Difference
from studies.peers.chains import FloatFile, Network, Packing, Tool

Group = str
"""Of peers that a person would choose from."""


class Spent(Frozen):
    """What making something took, from the checkpoint on."""

    train_images: int = 0
    """Pictures that went through the network while it was trained."""
    search_images: int = 0
    """Through any network while a method or a tool chose: gradients, searches, teachers, accuracy control."""
    calibration_images: int = 0
    """That a quantizer asked for."""
    wall_s: float = 0.0

    @property
    def images(self) -> int:
        """All pictures together."""
        return self.train_images + self.search_images + self.calibration_images

    def plus(self, other: Spent) -> Spent:
        """Of both."""
        return Spent(**{name: getattr(self, name) + getattr(other, name) for name in Spent.model_fields})


class MadeNetwork(Frozen):
    """A network of a chain, trained where the chain trains it; lies next to its weights and its float ONNX file."""

    network: Network
    params: int
    macs: int
    details: dict[str, Any]
    """What the tool chose on the way."""
    spent: Spent


class Peer(Frozen):
    """A file of a chain for one runtime, or why there is none."""

    network: Network
    packing: Packing
    key: Digest
    params: int | None = None
    macs: int | None = None
    details: dict[str, Any] = Field(default_factory=dict)
    spent: Spent = Spent()
    artifact: ArtifactRecord | None = None
    """None where it failed."""
    error: str | None = None

    @property
    def name(self) -> str:
        """In tables, and of its rows of latency."""
        return f"{self.network.label()}+{self.packing.label()}"

    @property
    def runtime(self) -> str:
        """That opens its file."""
        return self.packing.runtime

    @property
    def group(self) -> Group:
        """What it is compared among."""
        if self.network.kind == "torch-pruning":
            return f"torch-pruning, then {'ONNX Runtime' if self.runtime == 'onnxruntime' else 'NNCF'}"
        if self.network.kind == "tucker-2":
            return f"Tucker-2, then {'ONNX Runtime' if self.runtime == 'onnxruntime' else 'NNCF'}"
        if isinstance(self.packing, FloatFile):
            return "float"
        if self.packing.kind == "quantize_static":
            return "ONNX Runtime alone"
        return "NNCF alone" if self.packing.most_drop is None else "NNCF with accuracy control"

    def as_cell(self, seed: int) -> CellRecord:
        """The same as the functions take it that measure, judge and choose among cells."""
        quantization = {} if isinstance(self.packing, FloatFile) else {"quantization": {"precision": "int8"}}
        spent = self.spent
        return CellRecord(
            cell=self.name,
            methods=(*([] if self.network.kind == "untouched" else [self.network.kind]), *quantization),
            variant=quantization,
            seed=seed,
            status="failed" if self.artifact is None else "ok",
            error=self.error,
            node=self.key,
            params=self.params,
            macs=self.macs,
            no_effect=(),
            artifacts={} if self.artifact is None else {self.runtime: self.artifact},
            budget=BudgetRecord(
                train_epochs=0,
                train_images=spent.train_images,
                search_images=spent.search_images,
                teacher_forwards=0,
                qat_updates=0,
                train_s=spent.wall_s,
            ),
        )


class PeersFile(Frozen):
    """`results/peers.json` of a run: all files, ours among them, and what was timed of them."""

    cells: CellsFile
    """The control, and those of ours that were timed."""
    peers: tuple[Peer, ...]
    tools: tuple[Tool, ...]
    own_spent: dict[str, dict[str, Spent]]
    """Cell of ours -> runtime -> what it took."""
    max_drop: float
    bootstrap_draws: int
    bootstrap_seed: int
    latency: LatencyFile

    @property
    def dataset(self) -> DatasetRecord:
        """What all were made and scored on."""
        return self.cells.dataset


class Line(Frozen):
    """A row of the page: one file on one profile, the control's or a cell's of ours included."""

    name: str
    group: Group
    macs_share: float
    """Of the control's multiply-adds."""
    size_bytes: int
    val_map: float
    val_difference: Difference
    """From the baseline, as is the next."""
    test_map: float
    test_difference: Difference
    p50_s: float | None = None
    speedup: float | None = None
    """Against the control, in the same rounds; None where it was not timed."""
    speedup_ci95: tuple[float, float] | None = None
    verdict: str | None = None
    spent: Spent


class Versus(Frozen):
    """The chosen file of ours compared with the chosen one of a group of peers, on one profile."""

    group: Group
    peer: str | None
    """None: nothing of the group is within the drop and faster than the control."""
    test_difference: Difference | None = None
    """Of mAP, ours minus theirs."""
    speed_ratio: float | None = None
    """Their time over ours, above 1 where ours is faster."""
    speed_ratio_ci95: tuple[float, float] | None = None


class ProfilePage(Frozen):
    """All that the page shows of one profile."""

    profile: str
    runtime: str
    """Name and version."""
    rounds: int
    baseline: str
    """What drops are told against: the control, or the checkpoint where that is better on val."""
    control: Line
    ours: str | None
    """The chosen cell of ours."""
    versus: tuple[Versus, ...]
    lines: tuple[Line, ...]


class Failure(Frozen):
    """A chain that a tool could not make."""

    name: str
    runtime: str
    error: str


class Tried(Frozen):
    """Of how many networks the file of one kind was made or attempted; a study may be made in part."""

    packing: str
    runtime: str
    tried: int
    of: int


class Summary(Frozen):
    """`docs/peers.json`."""

    command: str
    sweep: str
    dataset: DatasetRecord
    machine: str
    max_drop: float
    bootstrap_draws: int
    bootstrap_seed: int
    tools: tuple[Tool, ...]
    profiles: tuple[ProfilePage, ...]
    failures: tuple[Failure, ...]
    tried: tuple[Tried, ...]
    """Every kind of file, in the order of chains."""
