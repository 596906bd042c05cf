"""Any torch detector of a user's own, behind a few functions that its author writes."""
