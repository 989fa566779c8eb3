"""persona-migrate over the first system's folder."""

from __future__ import annotations

import json

import psycopg
import pytest


def by_name(document):
    return {one["file"].rpartition("/")[2]: one for one in document["files"]}


def everything(queue):
    """All that an import may write."""
    return {
        table: queue.rows(f"select to_jsonb(t) as row from persona.{table} as t order by 1")
        for table in ("jobs", "job_queue", "agents", "job_types", "settings", "schedules", "alerts",
                      "cost_ledger", "job_logs")
    }  # fmt: skip


def test_the_history_is_there_with_its_times_and_outcomes(report, queue):
    found = by_name(report("executions"))

    jobs = queue.rows("select * from persona.jobs order by created_at")
    assert [(j["agent"], j["status"], j["exit_code"], j["error"]) for j in jobs] == [
        ("cro", "completed", 0, None),
        ("researcher", "failed", 1, "no network"),
        ("researcher", "failed", 124, "timeout"),
        ("assistant", "failed", None, "the first system recorded no end"),
        ("cro", "held", None, None),
        ("assistant", "held", None, None),
    ]
    assert str(jobs[0]["completed_at"] - jobs[0]["started_at"]) == "0:04:30"
    assert jobs[2]["failure_kind"] == "timeout"
    assert {j["business"] for j in jobs} == {"PersonalMCO"}
    reasons = {s["reason"]: s["examples"] for s in found["executions.json"]["skipped"]}
    assert reasons == {
        "it names no agent": ["exec-nobody"],
        "its status 'maybe' is not known": ["exec-odd"],
    }
    assert found["running-agents.json"]["skipped"][0]["reason"] == (
        "the same execution is in executions.json"
    )


def test_a_second_run_changes_nothing(report, queue):
    report("migrate-all")
    before = everything(queue)

    again = report("migrate-all")

    assert everything(queue) == before
    assert sum(one["imported"] + one["changed"] for one in again["files"]) == 0


def test_a_dry_run_reports_the_same_and_writes_nothing(report, queue):
    before = everything(queue)

    dry = report("migrate-all", "--dry-run")

    assert everything(queue) == before
    assert dry.pop("dryRun") is True
    real = report("migrate-all")
    assert real.pop("dryRun") is False
    assert dry == real


BROKEN = [
    (b'{"executions": [{"agent": "cro"', "it is not JSON"),
    (b'{"runs": []}', "no list of records"),
    (b'{"executions": ["x"]}', "no list of records"),
    (b"\xff\xfe", "it is not UTF-8"),
    (b"[" * 100_000, "it is not JSON"),
]


def test_a_broken_file_changes_nothing_and_the_others_are_imported(report, root, queue):
    for number, (text, _) in enumerate(BROKEN):
        folder = root / "instances" / f"B{number}" / "state"
        folder.mkdir(parents=True)
        (folder / "executions.json").write_bytes(text)

    files = {one["file"]: one for one in report("executions", code=1)["files"]}

    for number, (_, why) in enumerate(BROKEN):
        broken = files[f"instances/B{number}/state/executions.json"]
        assert why in broken["error"]
        assert broken["imported"] == 0
    assert files["instances/PersonalMCO/state/executions.json"]["imported"] == 5
    assert queue.value("select count(*) from persona.jobs where business like 'B%'") == 0


def test_a_file_of_which_the_database_refuses_one_record_leaves_nothing(report, state, queue):
    records = [
        {"id": f"t{n}", "content": "x", "queuedAt": "2026-01-08T10:00:00Z", "line": n}
        for n in range(600)
    ]
    records[-1] |= {"instance": "y", "queuedAt": "9999-12-31T23:59:59+00:00"}
    (state / "queue.json").write_text(json.dumps({"primary": records}))
    # Whatever it is that goes wrong: nothing of the file may stay.
    queue.conn.execute(
        "create function persona.refuse() returns trigger language plpgsql as $$ begin"
        " if new.source_line = 599 then perform persona._invalid('test', 'x', 'no'); end if;"
        " return new; end $$; create trigger refuse before insert on persona.jobs"
        " for each row execute function persona.refuse()"
    )

    found = by_name(report("pending-notes", code=1))

    assert "test is" in found["queue.json"]["error"]
    assert queue.value("select count(*) from persona.jobs where job_type = 'delegate'") == 0


def test_what_waited_is_held_until_a_person_releases_it(report, queue):
    report("pending-notes")

    held = queue.rows("select * from persona.jobs where status = 'held' order by created_at")
    assert [(j["job_type"], j["agent"], j["business"]) for j in held] == [
        ("delegate", "assistant", "MHM"),
        ("note_update", "cro", "PersonalMCO"),
    ]
    assert held[0]["payload"] == {"task": "Draft a follow-up"}
    assert held[0]["source_line"] == 12
    assert "Three deals moved." in held[1]["payload"]["prompt"]
    assert queue.value("select count(*) from persona.job_queue") == 0
    [dead] = queue.rows("select * from persona.jobs where status = 'failed'")
    assert (dead["error"], dead["business"]) == ("exit code 1", "PersonalMCO")


def test_requeue_queues_what_waited_but_never_what_may_still_run(report, queue):
    found = by_name(report("migrate-all", "--requeue"))

    assert found["queue.json"]["requeued"] == 1
    pending = queue.rows("select job_type from persona.jobs where status = 'pending' order by 1")
    assert [j["job_type"] for j in pending] == ["delegate", "note_update"]
    assert queue.value("select count(*) from persona.job_queue") == 2
    held = queue.rows("select status_reason from persona.jobs where status = 'held'")
    assert len(held) == 2
    assert all("see that it has ended" in j["status_reason"] for j in held)


def test_an_imported_job_wakes_nobody_and_costs_nothing(report, queue, dsn):
    idle = queue.runner()
    queue.claim(idle)
    with psycopg.connect(dsn, autocommit=True) as listener:
        listener.execute("listen persona_wake")

        report("migrate-all")

        heard = [n for n in listener.notifies(timeout=0.2) if n.channel == "persona_wake"]
    # The agents and schedules that are registered wake; the jobs do not.
    assert {n.payload for n in heard} <= {"assistant", "@schedules"}
    assert queue.value("select count(*) from persona.cost_ledger") == 0
    assert queue.value("select count(*) from persona.alerts") == 0


def test_an_imported_end_stays(report, queue):
    report("executions")

    with pytest.raises(psycopg.Error) as caught:
        queue.run("update persona.jobs set status = 'pending' where status = 'completed'")
    assert caught.value.sqlstate == "PJ423"


def test_imported_jobs_stand_among_the_others_by_their_age(report, queue, cli):
    queue.agent()
    queue.create()
    report("executions")

    rows = queue.rows("select * from persona.list_jobs()")
    created = [r["created_at"] for r in rows if r["created_at"].year < 2100]
    assert rows[0]["job_type"] in {"t", "agent_action"}
    assert created == sorted(created, reverse=True)
    # And they can be asked for as any other.
    shown = cli("info", rows[-1]["short_id"])
    assert shown.returncode == 0, shown.stderr
    assert "daily-pipeline-review" in shown.stdout


def test_an_agent_of_a_file_can_be_started_as_it_says(report, queue):
    found = by_name(report("agents"))

    agent = queue.row("select * from persona.agents where name = 'assistant'")
    assert (agent["role"], agent["model"], agent["provider"]) == (
        "Executive Assistant", "sonnet", "anthropic",
    )  # fmt: skip
    assert agent["timeout"].total_seconds() == 420
    assert agent["may_delegate_to"] == ["researcher"]
    allowed = agent["argv"][agent["argv"].index("--allowedTools") + 1]
    assert allowed == "Read(Resources/**/*),Edit(Resources/General/Embeds/*.md),WebSearch"
    assert "dangerously" not in " ".join(agent["argv"])
    # Braces of the text are no placeholders.
    assert agent["argv"][-1].endswith("Say {{nothing}} of {{{{business}}}}.")
    assert found["assistant.md"]["changed"] == 1
    assert "jules" in found["jules.md"]["skipped"][0]["examples"]
    assert "no front matter" in found["AGENTS.md"]["skipped"][0]["reason"]


def test_actions_stay_files_and_are_found_by_the_runner(report, queue):
    report("agents")

    path = queue.value("select prompt_file from persona.job_types where name = 'agent_action'")
    assert path == "{root}/instances/{business}/agents/{agent}/actions/{payload.action}.md"


def test_the_agent_of_a_second_business_does_not_replace_the_first_ones(report, root, queue):
    other = root / "instances" / "MHM" / "agents"
    other.mkdir(parents=True)
    (other / "assistant.md").write_text("---\nname: assistant\nrole: Other\n---\nOther.\n")

    document = report("agents", env={"PERSONA_BUSINESS": "PersonalMCO"})

    role = queue.value("select role from persona.agents where name = 'assistant'")
    assert role == "Executive Assistant"
    skipped = [s for one in document["files"] for s in one["skipped"]]
    assert any("is the one of PersonalMCO" in s["reason"] for s in skipped)


def test_broken_definitions_are_left_out(report, root, queue):
    agents = queue.rows("select * from persona.agents where name <> 'assistant' order by name")
    broken = {
        "a.md": ("---\nname: [a\n---\nx\n", "not YAML"),
        "b.md": ("---\nname: a\n", "no end"),
        "c.md": ("---\nname: a\ntimeout: soon\n---\nx\n", "no duration"),
        "d.md": ("---\nname: !!python/object/apply:os.system ['true']\n---\nx\n", "not YAML"),
    }
    for name, (text, _) in broken.items():
        (root / "instances" / "PersonalMCO" / "agents" / name).write_text(text)

    found = by_name(report("agents", code=1))

    assert all(why in found[name]["error"] for name, (_, why) in broken.items())
    after = queue.rows("select * from persona.agents where name <> 'assistant' order by name")
    assert after == agents


def test_triggers_on_files_are_named_with_what_does_it_here(report):
    found = by_name(report("agents"))

    reasons = {s["examples"][0]: s["reason"] for s in found["schedules.yaml"]["skipped"]}
    assert "persona notes watch" in reasons["daily_note_updated"]
    assert "no triggers on files" in reasons["project_created"]


# What a schedule of the schema looks like to its caller, for a schema that has none yet.
CREATE_SCHEDULE = """
create function persona.create_schedule(
  name text, spec text, job jsonb, time_zone text default 'UTC', is_paused boolean default false)
returns void language sql as $$
  insert into persona.schedules (name, spec, job, time_zone, is_paused)
  values (create_schedule.name, spec, job, time_zone, is_paused) $$
"""


def test_schedules_come_over_in_local_time_and_paused_where_the_old_one_is_left(
    report, queue, tmp_path
):
    if not queue.rows("select from pg_proc where proname = 'create_schedule'"):
        queue.run(CREATE_SCHEDULE)
    plists = tmp_path / "Library" / "LaunchAgents"
    plists.mkdir(parents=True)
    plist = plists / "com.persona.personalmco.assistant.morning-briefing.plist"
    plist.write_text("<plist/>")

    found = by_name(report("agents", env={"TZ": "Europe/Berlin"}))["schedules.yaml"]

    assert found["imported"] == 1
    made = queue.row("select * from persona.schedules")
    assert (made["name"], made["spec"], made["time_zone"]) == (
        "personalmco.assistant.morning-briefing", "15 5 * * 1-5", "Europe/Berlin",
    )  # fmt: skip
    assert made["job"]["job_type"] == "agent_action"
    assert made["job"]["payload"] == {"action": "morning-briefing"}
    assert made["job"]["business"] == "PersonalMCO"
    assert made["is_paused"]
    assert by_name(report("agents"))["schedules.yaml"]["unchanged"] == 1

    plist.unlink()
    queue.run("delete from persona.schedules")
    report("agents")
    assert not queue.value("select is_paused from persona.schedules")


def test_the_routes_of_headings_are_added_and_none_is_replaced(report, queue):
    queue.run(
        "insert into persona.settings (name, value, description)"
        " values ('note_routes', '{}', 'test') on conflict (name) do nothing"
    )
    queue.run(
        """update persona.settings set value = '{"mhm": "mine"}' where name = 'note_routes'"""
    )

    found = by_name(report("notes"))["env.md"]

    routes = queue.value("select value from persona.settings where name = 'note_routes'")
    assert routes == {"mhm": "mine", "personal": "PersonalMCO"}
    assert found["imported"] == 1
    assert found["skipped"][0]["examples"] == ["mhm"]
    assert "default_instance: set PERSONA_BUSINESS=PersonalMCO" in found["notes"]
    assert by_name(report("notes"))["env.md"]["unchanged"] == 1


def test_a_folder_without_a_first_system_is_refused(migrate, tmp_path):
    done = migrate("executions", "--persona-root", tmp_path / "nowhere")

    assert done.returncode == 78
    assert "holds no first system" in done.stderr


def test_what_would_run_twice_is_printed_with_the_command_that_ends_it(
    report, migrate, tmp_path, root
):
    home = tmp_path / "home of user"
    plists = home / "Library" / "LaunchAgents"
    plists.mkdir(parents=True)
    (plists / "com.persona.personalmco.assistant.morning-briefing.plist").write_text("<plist/>")
    (plists / "com.apple.other.plist").write_text("<plist/>")
    units = home / ".config" / "systemd" / "user"
    units.mkdir(parents=True)
    (units / "persona-worker.service").write_text("ExecStart=/x/python -m persona.worker\n")
    (units / "persona-runner.service").write_text("ExecStart=/x/bin/persona-worker\n")
    programs = tmp_path / "programs"
    programs.mkdir()
    crontab = programs / "crontab"
    crontab.write_text(
        f"#!/bin/sh\necho '# {root}/scripts/run-agent.sh off'\n"
        f"echo '0 6 * * * \"{root}/scripts/run-agent.sh\" MHM cro review'\necho '1 1 * * * backup'\n"
    )
    crontab.chmod(0o755)
    env = {"HOME": str(home), "PATH": f"{programs}:/usr/bin:/bin"}

    left = report("executions", env=env)["leftovers"]

    assert [one["what"].partition(":")[0] for one in left] == ["launchd", "cron", "systemd"]
    assert left[0]["command"].startswith("launchctl unload -w '")
    assert "grep -vxF" in left[1]["command"]
    assert left[2]["command"] == "systemctl --user disable --now persona-worker.service"
    assert "run beside this queue" in migrate("executions", "--dry-run", env=env).stdout
    # Printed, not done.
    assert len(list(plists.iterdir())) == 2
