"""Schedules, alerts and their rules: one method a SQL function, rows as dictionaries."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from persona_pg import schedules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from persona_pg.database import Connection, Database

Row = dict[str, Any]


class Plans:
    """What happens by itself, at its time or because of a failure."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def schedules(self) -> list[Row]:
        """List the schedules, the next one first."""
        return self._rows(
            "select s.*, r.outcome as last_outcome, r.late as last_late from persona.schedules as s"
            " left join lateral (select * from persona.schedule_runs as r where r.schedule = s.name"
            "   order by r.due_at desc limit 1) as r on true"
            " order by s.is_done, s.is_paused, s.next_due_at, s.name"
        )

    def schedule(self, name: str) -> Row | None:
        """Return one schedule."""
        found = self._rows("select * from persona.schedules as s where s.name = %s", (name,))
        return found[0] if found else None

    def runs(self, name: str, count: int) -> list[Row]:
        """Return what became of the last due times."""
        return self._rows(
            "select r.due_at, r.outcome, r.late, r.job_id, j.status from persona.schedule_runs as r"
            " left join persona.jobs as j on j.id = r.job_id"
            " where r.schedule = %s order by r.due_at desc limit %s",
            (name, count),
        )

    def create_schedule(self, **given: Any) -> Row:
        """Create a schedule; its first due time is computed at once."""
        self._call("create_schedule", given)
        return self._planned(given["name"])

    def change_schedule(self, function: str, name: str) -> Row:
        """Call pause_schedule, resume_schedule or remove_schedule."""
        found = self._call(function, {"name": name})
        return found if function == "remove_schedule" else self._planned(name)

    def now(self) -> Any:
        """Return the server's time."""
        return self._rows("select now() as at")[0]["at"]

    def alerts(self, count: int, *, unseen: bool) -> list[Row]:
        """Return alerts, the newest first."""
        return self._rows(
            "select a.* from persona.alerts as a where a.seen_at is null or not %s"
            " order by a.id desc limit %s",
            (unseen, count),
        )

    def acknowledge(self, up_to: int | None) -> int:
        """Mark alerts as seen."""
        [row] = self._rows("select persona.acknowledge_alerts(%s::bigint) as n", (up_to,))
        return int(row["n"])

    def rules(self) -> list[Row]:
        """List the rules."""
        return self._rows("select r.* from persona.alert_rules as r order by r.name")

    def set_rule(self, **given: Any) -> Row:
        """Make or replace a rule."""
        return self._call("set_alert_rule", given)

    def remove_rule(self, name: str) -> None:
        """Remove a rule."""
        self._call("remove_alert_rule", {"name": name})

    def test(self, rule: str | None) -> None:
        """Send a test alert."""
        self._rows("select persona.test_alert(%s::text)", (rule,), repeatable=False)

    def _planned(self, name: str) -> Row:
        wanted = [
            w for w in self._rows("select * from persona.schedules_to_plan()") if w["name"] == name
        ]
        if wanted:
            plan = json.dumps(schedules.plan(wanted))
            self._rows("select * from persona.plan_schedules(%s::jsonb)", (plan,))
        found = self.schedule(name)
        assert found is not None
        return found

    def _call(self, function: str, given: Mapping[str, Any]) -> Row:
        named = ", ".join(f"{key} => %s{_TYPES.get(key, '::text')}" for key in given)
        values = [Jsonb(v) if isinstance(v, dict) else v for v in given.values()]
        [row] = self._rows(f"select * from persona.{function}({named})", values, repeatable=False)  # noqa: S608
        return row

    def _rows(
        self, query: str, params: Sequence[Any] = (), *, repeatable: bool = True
    ) -> list[Row]:
        def work(conn: Connection) -> list[Row]:
            with conn.cursor(row_factory=dict_row, binary=True) as cursor:
                return cursor.execute(query, params).fetchall()

        return self.database.run(work, repeatable=repeatable)


_TYPES = {
    "job": "::jsonb",
    "delivery": "::jsonb",
    "condition": "::jsonb",
    "is_paused": "::boolean",
    "is_active": "::boolean",
    "jitter": "::interval",
}
