"""The runtimes that run a detector, a folder each; table.py lists them."""
