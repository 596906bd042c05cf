"""Results as pages of docs/."""
