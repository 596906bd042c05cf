"""Our own detector family."""
