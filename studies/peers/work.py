"""What is left to make of all chains, made network by network; what a tool cannot do is kept with its message."""

from __future__ import annotations

import fnmatch
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from detection.frozen import DamagedError
from flows.progress import duration
from flows.records.files import write_text
from flows.records.formatting import describe_failure
from flows.records.store import StoreError
from studies.finished_run import FinishedRun, open_run
from studies.peers.chains import Network, Packing, networks, packings
from studies.peers.making import Maker
from studies.peers.records import Peer, Tried

FAILURES = Path("results/peers-failures.json")
"""In the folder of the run: chain and runtime -> what the tool said. What stands there is tried again."""
Chain = tuple[Network, tuple[Packing, ...]]
"""A network, and the files of it."""


def chains_of(run: FinishedRun, pattern: str = "*") -> tuple[Chain, ...]:
    """All chains whose names match."""
    ways = tuple(packings(run.cells.runtimes, run.plan.params.report.max_drop))
    every = ((network, tuple(own for own in ways if fnmatch.fnmatch(chain_name(network, own), pattern))) for network in networks())
    return tuple((network, own) for network, own in every if own)


def chain_name(network: Network, packing: Packing) -> str:
    """As peers are named, and the runtime."""
    return f"{network.label()}+{packing.label()}@{packing.runtime}"


def make_all(run: FinishedRun, pattern: str, jobs: int) -> dict[str, str]:
    """Every chain that matches is in the store, or here with the reason why not; finished ones are skipped."""
    maker, todo = Maker(run), list[Chain]()
    for network, ways in chains_of(run, pattern):
        missing = tuple(own for own in ways if not maker.is_made(network, own))
        todo += [(network, missing)] if missing else []
    failures = {name: error for name, error in read_failures(run).items() if not fnmatch.fnmatch(name, pattern)}
    files = sum(len(ways) for _, ways in todo)
    print(f"peers: {len(todo)} networks with {files} files to make in {run.folder}", flush=True)
    started_s = time.perf_counter()
    for number, (network, found) in enumerate(_made(maker, todo, jobs), 1):
        failures |= found
        write_text(run.folder / FAILURES, json.dumps(failures, indent=1) + "\n")
        took_s = time.perf_counter() - started_s
        left = duration(took_s / number * (len(todo) - number))
        print(f"peers: {number} of {len(todo)}: {network.label()}, {len(found)} failures; about {left} left", flush=True)
    return failures


def read_failures(run: FinishedRun) -> dict[str, str]:
    """Those of the last time that each chain was tried."""
    path = run.folder / FAILURES
    found: dict[str, str] = json.loads(path.read_text()) if path.is_file() else {}
    return found


def read_peers(run: FinishedRun) -> tuple[Peer, ...]:
    """All that were made, and those that failed; chains that were never tried are left out."""
    maker, failures, found = Maker(run), read_failures(run), list[Peer]()
    for network, ways in chains_of(run):
        for packing in ways:
            if maker.is_made(network, packing):
                found.append(maker.read_peer(network, packing))
            elif (error := failures.get(chain_name(network, packing))) is not None:
                found.append(maker.failed_peer(network, packing, error))
    return tuple(found)


def tried_of(run: FinishedRun, peers: Iterable[Peer]) -> tuple[Tried, ...]:
    """For every kind of file, of how many networks it was made or attempted."""
    done = Counter(_kind(own.packing) for own in peers)
    asked = Counter(_kind(own) for _, ways in chains_of(run) for own in ways)
    return tuple(Tried(packing=name, runtime=runtime, tried=done[name, runtime], of=of) for (name, runtime), of in asked.items())


def _kind(packing: Packing) -> tuple[str, str]:
    return packing.label(), packing.runtime


def _made(maker: Maker, todo: list[Chain], jobs: int) -> Iterator[tuple[Network, dict[str, str]]]:
    """Each network and the failures of it, as they are done."""
    if jobs == 1:
        for network, ways in todo:
            yield network, _make(maker, network, ways)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for (network, _), found in zip(todo, pool.map(_make_there, [(maker.run.folder, *own) for own in todo]), strict=True):
            yield network, found


def _make_there(asked: tuple[Path, Network, tuple[Packing, ...]]) -> dict[str, str]:
    folder, network, ways = asked
    return _make(Maker(open_run(folder)), network, ways)


def _make(maker: Maker, network: Network, ways: tuple[Packing, ...]) -> dict[str, str]:
    error = _error_of(lambda: maker.make_network(network))
    if error is not None:
        print(f"{network.label()}: {error}", flush=True)
        return {chain_name(network, packing): error for packing in ways}
    failures = {}
    for packing in ways:
        if (error := _error_of(lambda packing=packing: maker.make_file(network, packing))) is not None:  # type: ignore[misc]
            failures[chain_name(network, packing)] = error
            print(f"{chain_name(network, packing)}: {error}", flush=True)
            continue
        made = maker.read_peer(network, packing)
        assert made.artifact is not None, "it was made"
        val_map, size_mb = made.artifact.val.map_50_95, made.artifact.size_bytes / 1e6
        print(f"{chain_name(network, packing)}: val mAP {val_map:.3f}, {size_mb:.2f} MB", flush=True)
    return failures


def _error_of(make: Callable[[], Any]) -> str | None:
    """None where it ends well; otherwise what the tool said."""
    try:
        make()
    except (StoreError, DamagedError, MemoryError):  # not the tool's
        raise
    except Exception as error:  # other people's code fails in its own ways, which become the record
        return describe_failure(error)
    return None
