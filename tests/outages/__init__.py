"""What befalls the database, and what the relay does about it: on servers of the tests' own."""
