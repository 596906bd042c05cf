"""Candidates of a search on Ray: the same result as here, and the same errors."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from compressors.contract import Workbench
from compressors.nas import Nas, search
from detection.checkpoint import Detector
from detection.frozen import InputError
from flows.grid.ray_cluster import ray_cluster
from flows.grid.ray_executor import Spread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """A private Ray of two CPUs."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("RAY_ADDRESS", raising=False)
        with ray_cluster(2) as own:
            yield own


def doubled(item: int) -> tuple[int, int]:
    """Twice the item, and who worked it out."""
    import os

    if item < 0:
        raise InputError(f"{item} is below zero")
    return 2 * item, os.getpid()


def nested() -> list[tuple[int, int]]:
    """What a task does that spreads its work."""
    import ray

    return Spread(ray, 1)(doubled, range(7))


def test_results_come_in_order_from_several_processes(ray: Any) -> None:
    """Seven items, two idle CPUs: three processes share them, and the results stand where their items stood."""
    results = Spread(ray, 1)(doubled, range(7))
    assert [result for result, _ in results] == [0, 2, 4, 6, 8, 10, 12]
    assert len({process for _, process in results}) == 3
    assert ray.cluster_resources()["CPU"] == 2


def test_tasks_that_wait_for_tasks_do_not_hold_each_other_up(ray: Any) -> None:
    """Two tasks on two CPUs that both spread their work come to an end, and with no idle CPU do it all themselves."""
    call = ray.remote(nested)
    found = ray.get([call.options(num_cpus=1).remote() for _ in range(2)], timeout=120)
    assert [[result for result, _ in own] for own in found] == [[0, 2, 4, 6, 8, 10, 12]] * 2


def test_what_the_work_raises_is_raised(ray: Any) -> None:
    """The error of a helper reaches the caller as it would have from here, without Ray's account of where."""
    with pytest.raises(InputError) as caught:
        Spread(ray, 1)(doubled, [1, -2, 3])
    assert type(caught.value) is InputError
    assert str(caught.value) == "-2 is below zero"


def test_a_search_on_ray_finds_what_it_finds_here(ray: Any, tiny_detector: Detector, workbench: Workbench) -> None:
    """Front, winner and random-search baseline are equal to the last bit."""
    config = Nas(
        budget_share=1.0, width_shares=(0.5, 1.0), supernet_epochs=1, evaluations=4, population=4, recalibration_pictures=8,
        val_pictures=4,
    )  # fmt: skip
    here, there = (search(tiny_detector, config, bench) for bench in (workbench, replace(workbench, each=Spread(ray, 1))))
    assert (there[0].digest, there[1]) == (here[0].digest, here[1])
