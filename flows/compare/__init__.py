"""A closer look: two cells, or several seeds."""
