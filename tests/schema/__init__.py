"""Tests of the schema: the embedded server, the migrations, and the SQL functions themselves."""
