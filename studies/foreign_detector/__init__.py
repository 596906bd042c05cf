"""A detector that is not of our family, as users bring them: what docs/your-detector.md compresses."""
