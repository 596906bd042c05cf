"""Stage `measure`: latency of every cell on every profile."""
