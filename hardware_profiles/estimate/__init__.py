"""Estimated latency and memory, from the graph of an exported file."""
