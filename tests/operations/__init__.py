"""Tests of what people do about events."""
