"""Channels that go together, how much they matter, and detectors with fewer of them: what pruning and searches share."""
