"""What each search found, and what as many evaluations without one would have: from the record of its node."""

from __future__ import annotations

from flows.grid.nodes import read_done
from flows.records.schema import CellRecord
from flows.records.store import Store
from studies.methods.results import Found, Search
from studies.methods.subjects import label_of


def search_of(store: Store, record: CellRecord) -> Search | None:
    """What the search on the way to a cell found; None where there was none, or none to compare it with."""
    if record.methods != ("nas",):
        return None
    done = read_done(store, record.node)
    while done.node.kind != "search":
        if done.node.parent is None:
            return None
        done = read_done(store, done.node.parent)
    details = next(change.details for change in done.changes if change.method == "nas")
    proxies = details["random_baseline"]
    if proxies is None:
        return None
    candidates = {"search": details["chosen"], **{name: proxies[name] for name in ("random_search", "largest_macs")}}
    return Search(
        label=label_of(record.cell),
        design_profile=details["design_profile"],
        budget_s=details["budget_s"],
        found=tuple(
            Found(
                by=by,
                supernet_val_map=own["supernet_val_map"],
                estimated_latency_s=own["estimated_latency_s"],
                macs=own["macs"],
            )
            for by, own in candidates.items()
        ),
    )
