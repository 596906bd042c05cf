"""A plan for a user's data and device, with the reason of each setting."""
