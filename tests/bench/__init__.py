"""Tests of the benchmarks: what does not depend on the machine."""
