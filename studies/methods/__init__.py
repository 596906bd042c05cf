"""What each method does alone, measured: the numbers of docs/methods.md. `make methods` runs it."""
