"""Studies whose output is committed to docs/."""
