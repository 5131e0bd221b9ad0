"""Tests of the store: the log, leases, settling, and the functions that applications call."""
