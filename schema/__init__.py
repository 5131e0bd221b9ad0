"""The database: SQL files, and just enough Python to apply them and to run a PostgreSQL to apply them to."""
