"""Stage `teacher`: the detector to be compressed."""
