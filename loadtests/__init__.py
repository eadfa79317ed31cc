"""Load tests and the benchmark; see README.md."""
