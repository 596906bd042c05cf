"""How a Ray task shares its own work with idle CPUs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from compressors.contract import Item, Result, in_turn


@dataclass(frozen=True)
class Spread:
    """`Each` inside a Ray task: the task does its share itself, and as many more tasks as there are idle CPUs do theirs.

    It keeps its CPUs while it works, and Ray takes them back while it waits for the others: tasks that wait for tasks do not hold
    each other up. Where no CPU is idle it does everything itself, instead of waiting behind trainings.
    """

    ray: Any
    """The module, connected."""
    threads: int
    """Of the task, and of each that helps: with another number the same sums would end in other bits."""

    def __call__(self, work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """work(item) of each, in the order of the items; what the work raises is raised here."""
        idle = int(self.ray.available_resources().get("CPU", 0) // self.threads)
        workers = 1 + max(0, min(idle, len(items) - 1))
        if workers == 1:
            return in_turn(work, items)
        call = self.ray.remote(_share).options(num_cpus=self.threads, max_retries=3)
        sent = self.ray.put(work)  # once, however many help
        shares = [call.remote(sent, list(items[worker::workers]), self.threads) for worker in range(1, workers)]
        done: list[Sequence[Result]] = [in_turn(work, items[::workers])]
        for share in shares:
            try:
                done.append(self.ray.get(share))
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause from error
        return [done[position % workers][position // workers] for position in range(len(items))]


def _share(work: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """One helper's part."""
    import torch

    torch.set_num_threads(threads)
    return in_turn(work, items)
