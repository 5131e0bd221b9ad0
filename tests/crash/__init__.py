"""Relays that are killed: real processes, the real sandbox, a real database."""
