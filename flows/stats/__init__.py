"""Statistics over records: intervals, verdicts, factorial effects."""
