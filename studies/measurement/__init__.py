"""Does measured latency hold? Simulated coverage, identical files, planted slowdowns, and LoadGen as the oracle."""
