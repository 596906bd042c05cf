"""`sixfold plan`: what a run would do, and how long it would take."""

from __future__ import annotations

from flows.cli.options import DEFAULT, CellsPattern, ParamsPath, load_sweep, print_table
from flows.sweep import workspace


def plan(params: ParamsPath = DEFAULT, cells: CellsPattern = None) -> None:
    """Print the graph, what is stored, what would run, and a forecast of its time."""
    loaded, store = load_sweep("plan", params)
    from detection.data.dataset import load_prepared
    from flows.grid.forecast import forecast, table_rows
    from flows.records.formatting import not_applicable
    from flows.records.schema import in_numbers
    from flows.sweep.given_teachers import what_labels_alone_teach
    from flows.sweep.machine_warnings import machine_warnings

    found = forecast(loaded, workspace.PREPARED, store, cells)
    print(f"sweep {loaded.params.sweep}: {in_numbers(found.cells, found.references)}")
    counts = (*table_rows(found), ("all", sum(found.nodes.values()), sum(found.stored.values())))
    lines = [(kind, str(nodes), str(stored), str(nodes - stored)) for kind, nodes, stored in counts]
    print_table(("node", "in the graph", "stored", "to make"), lines)
    print(
        f"to train {found.train_images:,} pictures (whole graph {found.train_images_whole:,}), "
        f"to search {found.search_images:,}, teacher forwards {found.teacher_forwards:,}, artifacts to score {found.to_score}"
    )
    guess = "constants of one machine; true times may be twice or half"
    basis = f"times of {found.measured_on} stored nodes" if found.measured_on else guess
    print(f"forecast: {found.cpu_s / 60:.1f} core-minutes, about {found.wall_s / 60:.1f} minutes here (from {basis})")
    classes = load_prepared(workspace.PREPARED).classes
    reasons = {str(method): why for method, why in loaded.not_applicable.items()}
    for line in (*not_applicable(reasons), *machine_warnings(loaded), *what_labels_alone_teach(loaded, classes)):
        print(line)
