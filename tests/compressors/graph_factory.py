"""Graphs of the default menu on a made-up foundation, and how they are compared."""

from __future__ import annotations

from typing import Any

from compressors.planning.graph import Foundation, Graph, Menu, Node, cells_of, graph_of
from detection.compact.architecture import Architecture
from detection.spec import Spec
from detection.training import Recipe

RUNTIMES = ("onnxruntime", "openvino")
TRAIN_PICTURES, VAL_PICTURES = 100, 40
TEACHER_EPOCHS, RECOVERY_EPOCHS = 7, 3
LIBRARIES = dict.fromkeys(("torch", "onnx", "onnxruntime", "openvino", "nncf", "torch-pruning", "tensorly", "optuna"), "1.0")
FOUNDATION = Foundation(
    teacher=Spec(classes=("a", "b"), input_size=(64, 96), settings=Architecture()),
    training=Recipe(epochs=TEACHER_EPOCHS),
    recovery=Recipe(epochs=RECOVERY_EPOCHS, learning_rate=1e-3),
    seed=0,
    train_digest="1" * 64,
    val_digest="2" * 64,
    train_pictures=TRAIN_PICTURES,
    val_pictures=VAL_PICTURES,
    device="cpu",
    threads=1,
    teacher_threads=2,
    design_profile="3" * 64,
    libraries=LIBRARIES,
)


def graph(menu: Menu | None = None, runtimes: tuple[str, ...] = RUNTIMES, **changed: Any) -> Graph:
    """The default menu's graph, with some of the foundation changed."""
    return graph_of(cells_of(menu or Menu()), FOUNDATION.model_copy(update=changed), runtimes)


def named(of: Graph) -> dict[str, str]:
    """Node name -> key."""
    return {node.name: key for key, node in of.nodes.items()}


def names_of_changed(before: Graph, after: Graph) -> set[str]:
    """Names of the nodes whose key differs between two graphs that have the same names."""
    old, new = named(before), named(after)
    assert old.keys() == new.keys()
    return {name for name in old if old[name] != new[name]}


def own_methods(node: Node) -> set[str]:
    """Methods that this node itself applies."""
    return {step.method for step in node.steps} | ({"distillation"} if node.objective else set())


def touched(before: Graph, directly: Any) -> set[str]:
    """Names of the nodes for which directly(node) holds, and of all that descend from them."""
    return {node.name for key, node in before.nodes.items() if any(directly(ancestor) for ancestor in before.lineage(key))}
