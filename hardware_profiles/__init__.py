"""Where a detector must run: device descriptions, measured and estimated latency."""
