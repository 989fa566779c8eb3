"""The tree of errors: exit codes, SQLSTATEs, and the translation of psycopg's errors."""

from __future__ import annotations

import re

import psycopg
import pytest
from psycopg import errors as pg

from persona_pg import errors, resources
from persona_pg.errors import PersonaError, from_database, translated

EXIT_CODES = {
    "PJ404": 3, "PJ300": 4, "PJ409": 4, "PJ410": 4, "PJ422": 2, "PJ423": 4, "PJ403": 5, "PJ426": 78,
    "PJ402": 5,
}  # fmt: skip


def test_each_sqlstate_has_its_class_and_exit_code():
    found = {state: cls.exit_code for state, cls in PersonaError.by_sqlstate.items()}

    assert found == EXIT_CODES


def test_every_sqlstate_in_sql_has_its_class():
    sql = "".join(file.read_text() for file in resources.db_directory().rglob("*.sql"))

    assert set(re.findall(r"'(PJ\d{3})'", sql)) <= PersonaError.by_sqlstate.keys()


def test_an_error_without_a_message_says_what_its_class_means():
    assert str(errors.LeaseLost()).startswith("The execution belongs to someone else")


@pytest.mark.parametrize(
    "raised, expected",
    [
        (pg.InvalidSchemaName('schema "persona" does not exist'), errors.SchemaMissing),
        (pg.UndefinedTable('relation "persona.jobs" does not exist'), errors.SchemaMissing),
        (pg.UndefinedFunction("function persona.x() does not exist"), errors.SchemaMissing),
        (pg.UndefinedTable('relation "mine" does not exist'), None),
        (pg.InsufficientPrivilege("permission denied"), errors.NotPermitted),
        (pg.AdminShutdown("terminating connection"), errors.DatabaseUnreachable),
        (pg.CannotConnectNow("starting up"), errors.DatabaseUnreachable),
        (pg.ConnectionFailure("lost"), errors.DatabaseUnreachable),
        (psycopg.OperationalError("the connection is lost"), errors.DatabaseUnreachable),
        (psycopg.InterfaceError("the connection is closed"), errors.DatabaseUnreachable),
        (pg.LockNotAvailable("lock timeout"), errors.TryLater),
        (pg.UniqueViolation("duplicate"), None),
    ],
)
def test_database_errors_are_translated(raised, expected):
    found = from_database(raised)

    assert type(found) is (expected or type(None))


def test_an_error_of_ours_keeps_message_hint_and_detail(conn):
    with pytest.raises(errors.UpdateConflictError, match="^changed meanwhile$") as caught:
        with translated():
            conn.execute(
                "do $$ begin raise exception 'changed meanwhile' using errcode = 'PJ409',"
                " detail = '{\"now\": 1}', hint = 'read it again'; end $$"
            )

    assert caught.value.detail == {"now": 1}
    assert caught.value.hint == "read it again"


def test_a_refused_connection_is_one_line():
    with pytest.raises(errors.DatabaseUnreachable) as caught, translated():
        psycopg.connect("host=127.0.0.1 port=1 dbname=x connect_timeout=2")

    assert "\n" not in str(caught.value)
    assert "refused" in str(caught.value)
