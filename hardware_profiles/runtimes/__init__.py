"""The runtimes that run a detector: what each opens and how."""
