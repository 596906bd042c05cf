"""Six ways to compress a detector, and the cells their combinations make."""
