"""Fitting a profile's numbers to measured networks."""
