"""What well-known tools make of the same checkpoint, in the same measurement rounds: docs/peers.md. `make peers` runs it."""
