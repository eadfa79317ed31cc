"""Load tests and the benchmark; see docs/benchmarks.md."""
