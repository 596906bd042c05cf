"""What is kept: the store, the records and their formats."""
