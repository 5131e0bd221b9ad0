"""Tests of the relay: its decisions alone, and the whole of it on a real database."""
