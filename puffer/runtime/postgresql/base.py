"""The DatabaseWrapper of this engine, where Django looks for it."""

from collections.abc import Generator
from typing import Any, TypeVar

import psycopg
from django.db.backends.postgresql import base
from psycopg import errors

Result = TypeVar("Result")

GRACE_SECONDS = 1  # PostgreSQL's own error comes first, if it answers at all


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection whose statements fail after `statement_seconds`; 0 means that they may take any time."""

    statement_seconds = 0.0

    def get_connection_params(self) -> dict[str, Any]:
        parameters = super().get_connection_params()
        if self.statement_seconds:
            limit = f"-c statement_timeout={round(self.statement_seconds * 1000)}"
            parameters["options"] = f"{parameters.get('options', '')} {limit}".strip()
        return parameters

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connection = super().get_new_connection(conn_params)
        if self.statement_seconds:
            limit_waits(connection, self.statement_seconds + GRACE_SECONDS)
        return connection


def limit_waits(connection: "psycopg.Connection[Any]", seconds: float) -> None:
    """Close the connection if PostgreSQL, or the network to it, does not answer within `seconds`.

    `statement_timeout` does not help then, and TCP notices only a peer whose kernel is silent.
    """
    wait = connection.wait

    def limited(generator: Generator[Any, Any, Result], **options: Any) -> Result:
        try:
            return wait(generator, **{"timeout": seconds, **options})
        except errors._WaitTimeout:
            connection.pgconn.finish()
            raise psycopg.OperationalError(f"no answer from the database within {seconds:g} s") from None

    connection.wait = limited  # type: ignore[method-assign, assignment]
