"""Detectors as users have them, in torch alone, each with the adapter by which sixfold compresses it."""
