"""Faults 4, 14 and 17 of the first system: answered questions, UTC dates, whole notes stored."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta, timezone

import psycopg
import pytest
from psycopg import sql


@pytest.fixture
def vault(tmp_path, persona_env):
    root = tmp_path / "vault"
    root.mkdir()
    persona_env["PERSONA_VAULT_PATH"] = str(root)
    return root


def jobs(conn):
    query = "select payload ->> 'question' from persona.jobs order by seq"
    return [question for (question,) in conn.execute(query)]


def test_04_answered_questions_are_not_counted_again(vault, cli, conn):
    note = vault / f"{datetime.now().astimezone().date()}.md"
    note.write_text("- ~~[?] answered long ago~~ so\n- [?] ~~and this~~\n- [?] open\n")

    first = cli("notes", "scan", "--yes", "--json")
    assert json.loads(first.stdout)["created"] == 1
    note.write_text("- ~~[?] answered long ago~~ so\n- [?] ~~and this~~\n- ~~[?] open~~ now\n")
    again = cli("notes", "scan", "--yes", "--json")

    assert json.loads(again.stdout)["created"] == 0
    assert jobs(conn) == ["open"]
    assert cli("notes", "scan").stderr == "vault vault: 1 note, 0 marked lines, 0 new jobs\n"


def test_14_today_is_the_local_day_and_not_the_day_in_utc(vault, cli, conn):
    """Whatever the hour is, in one of these zones the day is another one than in UTC."""
    now = datetime.now(UTC)
    hours = 14 if now.hour >= 10 else -12
    here = now.astimezone(timezone(timedelta(hours=hours))).date()
    assert here != now.date()
    for offset in (-2, -1, 0, 1, 2):
        day = here + timedelta(days=offset)
        (vault / f"{day}.md").write_text(f"[?] {offset}\n")

    # In these names the sign is that of the way back to UTC.
    done = cli("notes", "scan", "--yes", env={"TZ": f"Etc/GMT{-hours:+d}"})

    assert done.returncode == 0
    assert sorted(jobs(conn)) == ["-1", "0"]


def test_17_the_text_of_a_note_is_not_stored(vault, cli, conn, superuser_dsn):
    secret = "xyzzy"
    text = (
        f"---\nmood: {secret}\n---\n# Dear {secret}\n- what I {secret} think\n- [?] Why?\n"
        f"  - because {secret}\n## Meetings {secret}\n- Standup\n  - {secret} said no\n"
        f"~~[?] answered {secret}~~ {secret}\n- [?] and this? %% {secret} %%\n"
    )
    note = vault / f"{datetime.now().astimezone().date()}.md"
    note.write_text(text)

    assert cli("notes", "scan", "--yes").returncode == 0
    note.write_text(text.replace("Why?", "Why not?"))
    assert cli("notes", "scan", "--yes").returncode == 0

    assert len(jobs(conn)) == 4
    with psycopg.connect(superuser_dsn) as every:
        tables = every.execute(
            "select c.oid::regclass::text from pg_class as c"
            " where c.relkind in ('r', 'p') and c.relnamespace = 'persona'::regnamespace"
        ).fetchall()
        assert len(tables) > 20
        for (table,) in tables:
            schema, name = table.split(".")
            hits = every.execute(
                sql.SQL("select count(*) from {} as t where t::text like %s").format(
                    sql.Identifier(schema, name)
                ),
                (f"%{secret}%",),
            ).fetchone()
            assert (table, hits) == (table, (0,))
    # What is stored of it: one hash of the whole, and one of each marked line.
    [(digest, markers)] = conn.execute(
        "select sha256, markers from persona.daily_note_state"
    ).fetchall()
    assert digest == hashlib.sha256(note.read_bytes()).hexdigest()
    assert {key for marker in markers for key in marker} == {
        "kind",
        "hash",
        "ordinal",
        "line",
        "job",
    }
