"""Rounds that other machines measure."""
