"""Users' modules of tests/module_detector as detectors."""

from __future__ import annotations

from detection.brought import ModuleDetector
from detection.checkpoint import Detector, fresh
from flows.sweep.given_network import network_spec
from tests.places import ROOT

BASE = ROOT / "tests/module_detector"


def module_detector(name: str, like: Detector, **spec: bool | float) -> Detector:
    """The detector of one of the files there, built from a spec, with random weights, for the pictures and classes of another."""
    own = ModuleDetector.model_validate({"family": f"{name}:family", "spec": spec})
    return fresh(network_spec(own, BASE, like.spec.input_size, like.spec.classes), seed=0)
