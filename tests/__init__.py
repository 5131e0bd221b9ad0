"""Tests: a folder for each package, and what they share."""
