"""Benchmarks, one a module: `measure(rounds)` returns figures by name."""
