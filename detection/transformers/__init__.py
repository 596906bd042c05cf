"""Detectors of the transformers library, from a folder or a hub."""
