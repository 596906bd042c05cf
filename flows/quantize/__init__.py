"""int8 files of a user's own detector from pictures without labels."""
