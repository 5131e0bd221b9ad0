"""Tests of `outbox doctor`: each check is made to find something on a real PostgreSQL."""
