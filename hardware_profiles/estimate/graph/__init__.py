"""The graph of an exported file, as a runtime executes it."""
