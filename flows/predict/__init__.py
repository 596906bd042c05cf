"""Pictures in, boxes out: any model file of a sweep, or a user's own, on any pictures."""
