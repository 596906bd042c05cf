"""From cells to the nodes that make them, each made once. What cells there are says `compressors.planning.cells`."""

from __future__ import annotations

import hashlib
import json
from itertools import pairwise
from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from compressors.contract import PHASES, Phase
from compressors.distillation import Distillation
from compressors.planning.cells import REDUCTIONS, Cell, Combinations, Menu, MethodConfig, cells_of
from compressors.planning.names import CONTROL, METHODS, MethodName
from compressors.planning.reference_planner import Reference, references_of
from compressors.planning.references import Rebuilding, ReferenceConfig
from compressors.planning.versions import NODE_SCHEMA, VERSIONS
from detection.brought import Brought
from detection.family import family_of
from detection.frozen import Digest, Frozen, PositiveInt
from detection.spec import Spec
from detection.training import Recipe
from hardware_profiles.runtimes.table import RUNTIMES

__all__ = [
    "CONTROL", "METHODS", "NODE_KINDS", "Cell", "Combinations", "Foundation", "GivenTeacher", "Graph", "Menu",
    "MethodConfig", "MethodName", "Node", "NodeKind", "Planned", "Reference", "ReferenceConfig", "cells_of", "graph_of",
    "references_of",
]  # fmt: skip

Step = Annotated[MethodConfig | Rebuilding, Field(discriminator="method")]
"""What a node does to a detector before it is trained or packed."""
NodeKind = Literal["teacher", "search", "architecture", "recovered", "packed", "quantization_aware", "quantized"]
NODE_KINDS: tuple[NodeKind, ...] = get_args(NodeKind)
"""In the order in which they are made."""


class Planned(Frozen):
    """What a node will put through networks; the run must end with exactly these counts."""

    train_epochs: int = 0
    train_images: int = 0
    search_images: int = 0
    teacher_forwards: int = 0


class Node(Frozen):
    """One piece of work, named by all that decides its result."""

    key: Digest
    name: str
    """For people: kind and methods."""
    kind: NodeKind
    parent: Digest | None
    steps: tuple[Step, ...] = ()
    objective: Distillation | None = None
    taught_by: Digest | None = None
    """Key of the teacher's node, where there is an objective."""
    spec: Spec | None = None
    """Of a teacher that distillation names; None: the sweep's own, or what comes from the parent."""
    given: Digest | None = None
    """Of that teacher where the user brought it, weights and all; it is not trained then."""
    runtime: str | None = None
    threads: PositiveInt = 1
    planned: Planned = Planned()

    @property
    def is_reinitialised(self) -> bool:
        """Whether it takes no weight over from its parent, as references do that are rebuilt; its lineage begins here then."""
        return any(step.is_reinitialised for step in self.steps)


class GivenTeacher(Frozen):
    """A detector that the user brought to teach."""

    asked: Brought
    """As a variant of distillation names it."""
    spec: Spec
    digest: Digest
    """Of spec and weights, wherever they lie."""


class Foundation(Frozen):
    """What all nodes of a sweep share and is part of their keys."""

    teacher: Spec
    given: Digest | None = None
    """Of the detector that the user brought, weights and all; None: the sweep begins with random ones."""
    trains_given: bool = False
    """Whether the root is what the teacher's schedule makes of it; otherwise it is the detector as it was brought."""
    teachers: tuple[GivenTeacher, ...] = ()
    training: Recipe
    recovery: Recipe
    reduction: tuple[MethodName, ...] = REDUCTIONS
    seed: int = 0
    train_digest: Digest
    val_digest: Digest
    train_pictures: PositiveInt
    val_pictures: PositiveInt
    device: str
    threads: PositiveInt
    teacher_threads: PositiveInt
    design_profile: Digest
    libraries: dict[str, str]
    """Name -> version of what trains and packs."""

    @property
    def trains(self) -> bool:
        """Whether anything of the detector can be trained."""
        return "training" not in family_of(self.teacher).cannot(self.teacher)

    @property
    def root_is_untouched(self) -> bool:
        """Whether the root is the detector as it was brought: then no epoch of the budget is spent before it."""
        return self.given is not None and not self.trains_given

    @property
    def epochs(self) -> int:
        """What the weights of every cell see, from the random, brought or started ones on with which they begin."""
        return self.training.epochs + self.recovery.epochs if self.trains else 0


class Graph(Frozen):
    """Nodes in an order in which each follows its parent, and which of them make up each cell and each reference."""

    nodes: dict[Digest, Node]
    recovered: dict[str, Digest]
    """Name of a cell or reference -> the node of its float detector."""
    artifacts: dict[str, dict[str, Digest]]
    """Name of a cell or reference -> runtime -> the node whose file is shipped."""

    def lineage(self, key: Digest) -> tuple[Node, ...]:
        """A node and its ancestors, the teacher first."""
        nodes = [self.nodes[key]]
        while (parent := nodes[-1].parent) is not None:
            nodes.append(self.nodes[parent])
        return tuple(reversed(nodes))

    def is_from_scratch(self, key: Digest) -> bool:
        """Whether no weight of a node's detector comes from the root."""
        lineage = self.lineage(key)
        return any(reinitialises(node, before) for before, node in pairwise(lineage))

    def own_work(self, key: Digest) -> tuple[Node, ...]:
        """The lineage of a node, as far as its weights come from there: from the last new beginning of a reference on."""
        lineage = self.lineage(key)
        return lineage[max((place for place, node in enumerate(lineage) if node.is_reinitialised), default=0) :]

    def generation(self, key: Digest) -> int:
        """How many float detectors a node comes after: 0 for every training of a cell."""
        return sum(node.kind == "recovered" for node in self.lineage(key)[:-1])

    def named_teachers(self, key: Digest) -> tuple[Node, ...]:
        """Teachers that a node or its ancestors learn from, other than the sweep's own, which all descend from."""
        lineage = self.lineage(key)
        keys = dict.fromkeys(node.taught_by for node in lineage if node.taught_by not in (None, lineage[0].key))
        return tuple(self.nodes[key] for key in keys if key is not None)


def reinitialises(node: Node, before: Node) -> bool:
    """Whether a node takes no weight over from the one before it; a search may hand on an architecture alone."""
    changed = before if before.kind == "search" else node
    return node.kind == "architecture" and not all(step.inherits for step in changed.steps)


def graph_of(cells: tuple[Cell, ...], base: Foundation, runtimes: tuple[str, ...]) -> Graph:
    """The nodes that these cells need, references among them, each once."""
    plan = _Planner(base)
    recovered, artifacts = {}, {}
    for cell in cells:
        recovered[cell.name] = plan.recovered(cell)
        artifacts[cell.name] = {runtime: plan.artifact(cell, recovered[cell.name], runtime) for runtime in runtimes}
    return Graph(nodes=plan.nodes, recovered=recovered, artifacts=artifacts)


class _Planner:
    def __init__(self, base: Foundation) -> None:
        self.base = base
        self.nodes: dict[Digest, Node] = {}
        self.teacher = self._add("teacher", "teacher", None, recipe=None if base.root_is_untouched else base.training)

    def recovered(self, cell: Cell) -> Digest:
        """The float detector of a cell; the root itself where nothing of it can be trained."""
        if not self.base.trains or (isinstance(cell, Reference) and cell.is_given):
            return self.teacher
        steps = tuple(sorted(cell.of("reduction"), key=lambda config: self.base.reduction.index(config.method)))
        name, parent = _node_name("recovered", cell, *PHASES[:-1]), self._architecture(cell)
        return self._add(name, "recovered", parent, steps, cell.one_of("objective"), recipe=self.base.recovery)

    def artifact(self, cell: Cell, parent: Digest, runtime: str) -> Digest:
        """The node whose file the runtime opens; a float ONNX file serves all that open ONNX."""
        config = cell.one_of("packing")
        if config is None and not RUNTIMES[runtime].needs_packing:
            return parent
        if config is None:
            return self._add(_node_name(f"packed {runtime}", cell, *PHASES), "packed", parent, runtime=runtime)
        if config.qat_epochs:  # once for all runtimes
            name, steps = _node_name("quantization-aware", cell, *PHASES), (config.training_part(),)
            recipe = config.qat_recipe(self.base.recovery)
            parent = self._add(name, "quantization_aware", parent, steps, cell.one_of("objective"), recipe=recipe)
        return self._add(_node_name(f"quantized {runtime}", cell, *PHASES), "quantized", parent, (config,), runtime=runtime)

    def _architecture(self, cell: Cell) -> Digest:
        """The node with E epochs: the teacher itself where nothing changes its architecture and its epochs count."""
        name, parent = _node_name("architecture", cell, "architecture", "search", "objective"), self.teacher
        if isinstance(cell, Reference) and cell.rebuilding is not None:
            begun_after = parent if cell.like is None else self.recovered(cell.like)
            return self._add(name, "architecture", begun_after, (cell.rebuilding,), recipe=self.base.training)
        steps = cell.of("architecture", "search")
        if not steps and not (self.base.root_is_untouched and self.base.training.epochs):
            return parent
        # Weights that come from a trained root have had their E epochs.
        has_had_them = bool(steps) and all(config.inherits for config in steps) and not self.base.root_is_untouched
        goes_on = has_had_them or not self.base.training.epochs
        if cell.of("search"):
            parent, steps = self._add(_node_name("search", cell, "architecture", "search"), "search", parent, steps), ()
            if goes_on:
                return parent
        if goes_on:
            return self._add(_node_name("architecture", cell, "architecture"), "architecture", parent, steps)
        return self._add(name, "architecture", parent, steps, cell.one_of("objective"), recipe=self.base.training)

    def _teacher_of(self, objective: Distillation) -> Digest:
        """The sweep's teacher, or the one that the objective names: as it was brought, or trained by the same schedule."""
        if objective.teacher is None:
            return self.teacher
        brought = next((own for own in self.base.teachers if own.asked == objective.brought), None)
        spec = self.base.teacher.having(objective.teacher) if brought is None else brought.spec
        name = f"teacher {family_of(spec).label(spec.settings)}"
        if brought is not None:
            return self._add(name, "teacher", None, spec=spec, given=brought.digest)
        return self._add(name, "teacher", None, recipe=self.base.training, spec=spec)

    def _add(
        self, name: str, kind: NodeKind, parent: Digest | None, steps: tuple[Any, ...] = (), objective: Distillation | None = None,
        *, runtime: str | None = None, recipe: Recipe | None = None, spec: Spec | None = None, given: Digest | None = None,
    ) -> Digest:  # fmt: skip
        """The key of the node, which is made of all that decides its result, as canonical data; what does not stays out."""
        base, taught_by = self.base, self._teacher_of(objective) if objective else None
        asked = steps if objective is None else (*steps, objective)
        schedule = base.training if kind == "search" else recipe
        threads = base.teacher_threads if kind == "teacher" else base.threads
        identity = {
            "schema": NODE_SCHEMA,
            "kind": kind,
            "parent": parent,
            "spec": (spec or base.teacher).model_dump(mode="json", by_alias=True) if kind == "teacher" else None,
            "steps": [config.model_dump(mode="json") for config in steps],
            "objective": objective and {"config": objective.apart_from_place(), "teacher": taught_by},
            "runtime": runtime,
            **({"given": base.given} if base.given and kind == "teacher" and spec is None else {}),
            **({"given": given} if given else {}),
            "recipe": schedule and schedule.model_dump(mode="json"),
            **({"recovery": base.recovery.model_dump(mode="json")} if any(config.asks_recovery for config in asked) else {}),
            "seed": base.seed,
            "train": base.train_digest,
            "val": base.val_digest if any(config.looks_at_val for config in asked) else None,
            "versions": {name: VERSIONS[name] for name in sorted(_versions_of(kind, asked, trains=schedule is not None))},
            "libraries": {name: base.libraries[name] for name in sorted(_libraries_of(asked, runtime))},
            "compute": {"device": base.device, "threads": threads},
            "design_profile": base.design_profile if any(config.asks_design_profile for config in asked) else None,
        }
        key = hashlib.sha256(json.dumps(identity, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        if key not in self.nodes:
            self.nodes[key] = Node(
                key=key, name=name, kind=kind, parent=parent, steps=steps, objective=objective, taught_by=taught_by, spec=spec,
                given=given, runtime=runtime, threads=threads, planned=self._planned(asked, objective, recipe),
            )  # fmt: skip
        return key

    def _planned(self, asked: tuple[Any, ...], objective: Distillation | None, recipe: Recipe | None) -> Planned:
        train, val = self.base.train_pictures, self.base.val_pictures
        return Planned(
            train_epochs=recipe.epochs if recipe else 0,
            train_images=recipe.epochs * train if recipe else 0,
            search_images=sum(own.search_images(train, val) + own.final_images(self._chosen_by(own), train, val) for own in asked),
            teacher_forwards=objective.teacher_forwards(recipe, train) if objective and recipe else 0,
        )

    def _chosen_by(self, config: Any) -> int:
        """Epochs of a training by which a method chooses: of the recovery where weights are inherited."""
        return (self.base.recovery if config.inherits else self.base.training).epochs


def _versions_of(kind: NodeKind, asked: tuple[Any, ...], trains: bool) -> set[str]:
    """Names of the versions of the code that makes a node."""
    uses = {config.version_name or config.method for config in asked} | ({"training"} if trains else set())
    uses |= {"estimate"} if any(config.asks_estimate for config in asked) else set()
    # A search ends with an architecture; every other node writes a file.
    uses |= {"export"} if kind != "search" else set()
    uses |= {"evaluation"} if any(config.looks_at_val for config in asked) else set()
    return uses | ({"quantization"} if kind == "packed" else set())  # its version is that of all writers of files


def _libraries_of(asked: tuple[Any, ...], runtime: str | None) -> set[str]:
    """Distributions that make a node; ONNX Runtime runs the pictures from which the ranges of every runtime come."""
    libraries = {"torch"} if runtime is None else {"torch", "onnx", "onnxruntime", *RUNTIMES[runtime].libraries}
    if any(isinstance(config, Distillation) and config.gives_boxes for config in asked):
        libraries.add("onnxruntime")  # it runs the teacher's file
    return libraries.union(*(config.libraries for config in asked))


def _node_name(kind: str, cell: Cell, *phases: Phase) -> str:
    """For people: the kind, and the methods of these phases or the reference."""
    if isinstance(cell, Reference):
        return f"{kind} {cell.name if kind.startswith('quantized') else cell.float_name}"
    return f"{kind} {'+'.join(config.method for config in cell.of(*phases)) or CONTROL}"
