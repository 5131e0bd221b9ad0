"""The errors of the schema: a class for each decision that a caller or a person takes."""

from __future__ import annotations


class SchemaError(Exception):
    """Root of all errors that this package raises; its message is one sentence for people, without a secret."""


class EmbeddedPostgresError(SchemaError):
    """The embedded PostgreSQL can't be found, started or stopped."""


class ServerUnsuitable(SchemaError):
    """The server can't be used as it is: unreachable, too old, read-only, or the role lacks a privilege."""


class SchemaMissing(SchemaError):
    """The database holds no outbox schema: migrate it."""


class SchemaOutdated(SchemaError):
    """The database is older than the code: migrate it."""


class SchemaTooNew(SchemaError):
    """The database is newer than the code: upgrade the code."""


class SchemaConflict(SchemaError):
    """The database's history is not the code's: a person has to decide."""


class SchemaBusy(SchemaError):
    """Other transactions hold the locks that a migration needs: try again later."""


class MigrationFailed(SchemaError):
    """A SQL file was refused by the server; nothing was changed."""
