"""From a menu of variants to cells, and from cells to the nodes that make them."""
