"""Stage `grid`: the nodes of all cells, made in parallel."""
