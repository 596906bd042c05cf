"""What happens, in which order: the DVC stages and what they share."""
