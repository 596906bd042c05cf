"""The generated EfficientDet-Lite detectors against what was published about them."""

from __future__ import annotations

import pytest

from studies.profiles.efficientdet_graphs import SIZES, efficientdet_graph

PARAMETERS = {  # in 1e6, github.com/google/automl efficientdet README
    "efficientdet-lite0": 3.2,
    "efficientdet-lite1": 4.2,
    "efficientdet-lite2": 5.3,
    "efficientdet-lite3": 8.4,
    "efficientdet-lite4": 15.1,
}
GFLOPS = {"efficientdet-lite0": 1.94, "efficientdet-lite1": 4.0, "efficientdet-lite2": 6.84}


@pytest.mark.parametrize(("name", "published"), PARAMETERS.items())
def test_parameters_are_the_published_ones(name: str, published: float) -> None:
    """Parameters agree within 2 % with google/automl's table, which rounds to 0.1 million."""
    assert efficientdet_graph(name).parameters / 1e6 == pytest.approx(published, rel=0.02)


@pytest.mark.parametrize(("name", "published"), GFLOPS.items())
def test_operations_are_the_published_ones(name: str, published: float) -> None:
    """Two operations per multiply-add agree within 2 % with those published beside the latencies."""
    assert efficientdet_graph(name).gflops == pytest.approx(published, rel=0.02)


def test_every_size_is_larger() -> None:
    """The sizes are listed from the smallest to the largest, in operations and in parameters."""
    graphs = [efficientdet_graph(name) for name in SIZES]
    assert [graph.gflops for graph in graphs] == sorted(graph.gflops for graph in graphs)
    assert [graph.parameters for graph in graphs] == sorted(graph.parameters for graph in graphs)
