"""One database with two tenants, for all of a module: what a client of one tries on the other."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import psycopg
import pytest
from psycopg import sql
from sqltest import Queue


@dataclass
class Roles:
    """Makes login roles, and removes them at the end."""

    databases: object

    def __post_init__(self):
        self.made = []

    def login(self, *groups):
        name = f"t_{uuid.uuid4().hex[:12]}"
        self.databases.admin.execute(
            sql.SQL("create role {} login password 'persona'").format(sql.Identifier(name))
        )
        self.made.append(name)
        for group in groups:
            self.databases.admin.execute(
                sql.SQL("grant {} to {}").format(sql.Identifier(group), sql.Identifier(name))
            )
        return name

    def drop(self):
        for name in self.made:
            self.databases.admin.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))


@pytest.fixture(scope="module")
def roles(databases):
    found = Roles(databases)
    yield found
    found.drop()


@pytest.fixture(scope="module")
def shared(databases, postgresql_noproc, roles):
    """Name of a database with the schema, for the whole module."""
    name = databases.create(postgresql_noproc.template_dbname)
    yield name
    databases.drop(name)


@pytest.fixture(scope="module")
def session(databases, shared):
    """Make sessions of a role in the shared database: returns a Queue."""
    opened = []

    def make(role=None, **options):
        conn = psycopg.connect(databases.dsn(shared, user=role), autocommit=True, **options)
        opened.append(conn)
        return Queue(conn)

    yield make
    for conn in opened:
        conn.close()
