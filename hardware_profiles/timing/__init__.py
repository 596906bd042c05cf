"""Measured latency: one round in a fresh process, and what is known of the machine."""
