"""Rules that every object of the schema keeps, asked of the catalogue."""

from __future__ import annotations

import os
import re

import psycopg
import pytest

from persona_pg import migrations, resources

DB = resources.db_directory()
FUNCTIONS = "from pg_proc as p where p.pronamespace = 'persona'::regnamespace"
RELATIONS = (
    "from pg_class as c where c.relnamespace = 'persona'::regnamespace"
    " and c.relkind in ('r', 'p', 'v', 'm') and not c.relispartition"
)
FUNCTION_RULES = {
    "it says what it does": "obj_description(p.oid, 'pg_proc') is null",
    "its search_path is pinned, or its body is bound": """p.prosqlbody is null and not exists (
        select from unnest(p.proconfig) as c where c like 'search_path=%')""",
    "a pinned search_path ends with pg_temp": """exists (
        select from unnest(p.proconfig) as c where c like 'search_path=%' and c !~ 'pg_temp"?$')""",
    "PUBLIC may not execute it": """exists (
        select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) as a
        where a.grantee = 0)""",
    "it has no overload but the documented one": """p.proname <> 'detect_hung_jobs' and exists (
        select from pg_proc as o where o.pronamespace = p.pronamespace
        and o.proname = p.proname and o.oid <> p.oid)""",
    "an internal function is granted to the definer, and to viewers where a view calls it": """
        p.proname ~ '^_' and exists (
        select from aclexplode(p.proacl) as a where a.grantee <> p.proowner
          and a.grantee <> 'persona_definer'::regrole
          and not (a.grantee = 'persona_viewer'::regrole and exists (
            select from pg_depend as d where d.classid = 'pg_rewrite'::regclass
              and d.refclassid = 'pg_proc'::regclass and d.refobjid = p.oid)))""",
    "what others may call runs as its owner": """p.proname !~ '^_' and not p.prosecdef""",
    "what clients and viewers may call is subject to row-level security": """
        p.prosecdef and p.proname <> 'my_tenants' and p.proowner <> 'persona_definer'::regrole
        and (has_function_privilege('persona_client', p.oid, 'execute')
          or has_function_privilege('persona_viewer', p.oid, 'execute'))""",
    "only what clients and viewers may call belongs to the definer": """
        p.proowner = 'persona_definer'::regrole
        and not has_function_privilege('persona_client', p.oid, 'execute')""",
}
RELATION_RULES = {
    "it says what it is": "obj_description(c.oid, 'pg_class') is null",
    "nobody may write but the owner and the functions of clients": """exists (
        select from aclexplode(c.relacl) as a
        where a.grantee not in (c.relowner, 'persona_definer'::regrole)
          and a.privilege_type <> 'SELECT')""",
    "a table has a policy for tenants": """c.relkind in ('r', 'p') and not exists (
        select from pg_policy as p where p.polrelid = c.oid and p.polpermissive)""",
    "a table has one policy, for every command and every role": """c.relkind in ('r', 'p') and exists (
        select from pg_policy as p where p.polrelid = c.oid
        and (p.polname <> 'tenant' or p.polcmd <> '*' or p.polroles <> '{0}'))""",
    "a view shows what its reader may see": """c.relkind = 'v' and not coalesce(
        'security_invoker=true' = any(c.reloptions), false)""",
    "PUBLIC sees nothing": "exists (select from aclexplode(c.relacl) as a where a.grantee = 0)",
    "a table has a primary key": """c.relkind in ('r', 'p') and not exists (
        select from pg_constraint as k where k.conrelid = c.oid and k.contype = 'p')""",
}


@pytest.mark.parametrize("rule", FUNCTION_RULES)
def test_every_function_keeps_the_rule(conn, rule):
    offenders = conn.execute(
        f"select p.oid::regprocedure::text {FUNCTIONS} and ({FUNCTION_RULES[rule]}) order by 1"
    )

    assert [name for (name,) in offenders] == []


@pytest.mark.parametrize("rule", RELATION_RULES)
def test_every_table_and_view_keeps_the_rule(conn, rule):
    offenders = conn.execute(
        f"select c.oid::regclass::text {RELATIONS} and ({RELATION_RULES[rule]}) order by 1"
    )

    assert [name for (name,) in offenders] == []


def test_every_column_of_a_table_says_what_it_is(conn):
    offenders = conn.execute(
        "select c.relname || '.' || a.attname from pg_attribute as a"
        f" join (select c.* {RELATIONS}) as c on c.oid = a.attrelid"
        " where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p')"
        " and col_description(a.attrelid, a.attnum) is null order by 1"
    )

    assert [name for (name,) in offenders] == []


def test_every_check_has_a_name_of_its_own(conn):
    offenders = conn.execute(
        "select k.conrelid::regclass::text || ': ' || k.conname from pg_constraint as k"
        " where k.connamespace = 'persona'::regnamespace and k.contype = 'c'"
        " and k.conname ~ '_check[0-9]*$' order by 1"
    )

    assert [name for (name,) in offenders] == []


def test_install_sql_names_each_file_once_and_every_file():
    named = [
        f"migrations/{step.name}" if step.is_migration else step.name
        for step in migrations.read_steps(DB)
        if step.name
    ]
    files = {file.relative_to(DB).as_posix() for file in DB.rglob("*.sql")}

    assert sorted(named) == sorted(set(named))
    assert files - set(named) <= {"install.sql", "_apply_migration.sql"}
    assert set(named) <= files


def test_migrations_are_numbered_without_gaps_and_run_in_that_order():
    names = [step.name for step in migrations.read_steps(DB) if step.is_migration]

    assert names == sorted(names)
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))
    assert all(re.fullmatch(r"\d{4}_[a-z0-9_]+\.sql", name) for name in names)


def test_every_function_comes_from_the_file_of_its_name(conn):
    live = {name for (name,) in conn.execute(f"select distinct p.proname {FUNCTIONS}")}

    assert live == {file.stem for file in (DB / "functions").rglob("*.sql")}


def test_the_definer_of_what_clients_call_is_a_role_without_power(conn):
    role = conn.execute(
        "select r.rolcanlogin, r.rolsuper, r.rolbypassrls, r.rolcreaterole, r.rolcreatedb,"
        " r.rolreplication from pg_roles as r where r.rolname = 'persona_definer'"
    ).fetchone()
    owned = conn.execute(
        "select c.relname from pg_class as c where c.relowner = 'persona_definer'::regrole"
        " union all select n.nspname from pg_namespace as n"
        " where has_schema_privilege('persona_definer', n.oid, 'create')"
        " and n.nspname in ('persona', 'public')"
    ).fetchall()
    above = conn.execute(
        "select m.roleid::regrole::text from pg_auth_members as m"
        " where m.member = 'persona_definer'::regrole"
    ).fetchall()

    assert role == (False,) * 6
    assert owned == []
    assert above == []


def test_partitions_are_read_through_their_table_only(conn):
    readable = conn.execute(
        "select c.relname from pg_class as c where c.relnamespace = 'persona'::regnamespace"
        " and c.relispartition and c.relkind in ('r', 'p')"
        " and has_table_privilege('persona_viewer', c.oid, 'select')"
    ).fetchall()

    assert readable == []


def test_dynamic_sql_is_only_where_names_are_data():
    # The partitions of job_logs are named after their day; tables are found in the catalogue.
    allowed = {"_upkeep_logs.sql", "_enforce_tenants.sql"}
    dynamic = re.compile(r"(?m)^\s*(execute\b(?! function| procedure)|return query execute)")

    found = {f.name for f in (DB / "functions").rglob("*.sql") if dynamic.search(f.read_text())}

    assert found <= allowed


def test_plpgsql_check_finds_nothing(superuser_dsn):
    with psycopg.connect(superuser_dsn, autocommit=True) as conn:
        available = conn.execute(
            "select 1 from pg_available_extensions where name = 'plpgsql_check'"
        ).fetchone()
        if not available:
            assert not os.environ.get("PERSONA_TEST_REQUIRE_CHECKER"), "plpgsql_check is missing"
            pytest.skip("plpgsql_check is not available on this server")
        conn.execute("create extension plpgsql_check")
        findings = conn.execute(
            "select p.oid::regprocedure::text, f.lineno, f.level, f.sqlstate, f.message, f.detail"
            " from pg_proc as p join pg_language as l on l.oid = p.prolang"
            " left join pg_trigger as t on t.tgfoid = p.oid and not t.tgisinternal"
            " cross join lateral public.plpgsql_check_function_tb("
            "   p.oid, coalesce(t.tgrelid, 0), oldtable => t.tgoldtable, newtable => t.tgnewtable,"
            "   other_warnings => true, extra_warnings => true, security_warnings => true,"
            "   performance_warnings => false, compatibility_warnings => true) as f"
            " where p.pronamespace = 'persona'::regnamespace and l.lanname = 'plpgsql' order by 1, 2"
        ).fetchall()

    assert findings == []


def test_the_checker_would_notice(superuser_dsn):
    """The test above is only worth something if a broken function is found."""
    with psycopg.connect(superuser_dsn, autocommit=True) as conn:
        if not conn.execute(
            "select 1 from pg_available_extensions where name = 'plpgsql_check'"
        ).fetchone():
            pytest.skip("plpgsql_check is not available on this server")
        conn.execute("create extension plpgsql_check")
        conn.execute(
            "create function public.broken() returns int language plpgsql as"
            " $$ begin return (select nonsense from persona.jobs); end $$"
        )
        found = conn.execute(
            "select message from public.plpgsql_check_function_tb('public.broken()')"
        ).fetchall()

    assert "nonsense" in found[0][0]
