from __future__ import annotations

import json
from datetime import timedelta

import pytest

from persona_pg.errors import InvalidInput


def test_agents_without_a_subcommand_lists(cli):
    assert cli("agents").stdout == cli("agents", "list").stdout
    found = {agent["agent"]: agent for agent in json.loads(cli("agents", "--json").stdout)}
    assert found["researcher"]["program"] == "claude"
    assert len(cli("agents", "--jsonl").stdout.splitlines()) == len(found)


def test_agents_add_registers_one(cli, queue):
    done = cli(
        "agents", "add", "mine", "--description", "My own.", "--stdin", "{prompt}",
        "--env", "A=b=c", "--env", "D=", "--timeout", "2m", "--max-concurrent", "2",
        "--costs-money", "--may-delegate-to", "assistant", "--launcher", "nice -n 'a b'",
        "--output-format", "jsonl", "--", "/bin/prog", "--flag", "a b", "{prompt}",
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (0, "agent mine registered\n")
    agent = queue.get_agent("mine")
    assert agent.argv == ["/bin/prog", "--flag", "a b", "{prompt}"]
    assert (agent.env, agent.timeout) == ({"A": "b=c", "D": ""}, timedelta(minutes=2))
    assert (agent.max_concurrent, agent.costs_money, agent.is_active) == (2, True, True)
    assert (agent.may_delegate_to, agent.launcher) == (["assistant"], ["nice", "-n", "a b"])
    shown = cli("agents", "show", "mine").stdout
    assert "argv               /bin/prog --flag 'a b' '{prompt}'" in shown
    assert "timeout            2m\n" in shown


def test_agents_add_refuses_a_name_that_is_taken(cli):
    done = cli("agents", "add", "researcher", "--", "prog")
    assert done.returncode == 2
    assert "persona agents edit" in done.stderr


def test_agents_edit_changes_only_what_is_named(cli, queue):
    before = queue.get_agent("researcher")
    done = cli("agents", "edit", "researcher", "--timeout", "30m", "--model", "small")
    after = queue.get_agent("researcher")

    assert done.stdout == "agent researcher changed: model, timeout\n"
    assert (after.timeout, after.model) == (timedelta(minutes=30), "small")
    assert (after.argv, after.costs_money, after.provider) == (before.argv, True, "anthropic")


def test_agents_edit_takes_a_limit_away(cli, queue):
    cli("agents", "edit", "researcher", "--timeout", "none")
    assert queue.get_agent("researcher").timeout is None


def test_agents_edit_reads_what_show_prints(cli, queue, tmp_path):
    before = queue.get_agent("researcher")
    file = tmp_path / "agent.json"
    shown = json.loads(cli("agents", "show", "researcher", "--json").stdout)
    file.write_text(json.dumps(shown | {"maxConcurrent": 5}))
    done = cli("agents", "edit", "researcher", "--json", f"@{file}")

    after = queue.get_agent("researcher")
    assert (done.returncode, after.max_concurrent) == (0, 5)
    assert (after.argv, after.timeout, after.env) == (before.argv, before.timeout, before.env)


def test_agents_enable_and_disable(cli, queue):
    assert cli("agents", "disable", "cro", "engineer").stdout.splitlines() == [
        "agent cro is disabled",
        "agent engineer is disabled",
    ]
    assert queue.get_agent("cro").is_active is False
    assert cli("agents", "enable", "cro").stdout == "agent cro is enabled\n"


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["add", "mine"], "name the program after --"),
        (["add", "Not A Name", "--", "x"], "lower case letters"),
        (["add", "mine", "--env", "no", "--", "x"], "'no' is not NAME=VALUE"),
        (["add", "mine", "--max-attempts", "0", "--", "x"], "max_attempts"),
        (["edit", "cro"], "nothing to change"),
        (["edit", "cro", "--json", '{"colour": 1}'], "colour"),
        (["edit", "nobody", "--model", "x"], "nobody"),
        (["enable", "nobody"], "nobody"),
        (["show", "nobody"], "nobody"),
        (["frobnicate"], "frobnicate"),
    ],
)
def test_a_wrong_agent_command_is_one_line(cli, arguments, said):
    done = cli("agents", *arguments)
    assert done.returncode in {2, 3}
    assert (done.stdout, done.stderr.count("\n")) == ("", 1)
    assert said in done.stderr


def test_the_client_refuses_fields_that_do_not_exist(queue):
    with pytest.raises(InvalidInput, match="colour"):
        queue.register_agent("mine", ["prog"], colour="red")


# -- runners


def test_runners_lists_the_living(cli, runner):
    for arguments in (["runners"], ["runners", "list"]):
        assert cli(*arguments).stdout.splitlines()[1].split()[0] == "played"
    assert cli("runners").stdout.splitlines()[1].split()[:3] == ["played", "idle", "0/10"]
    [document] = json.loads(cli("runners", "--json").stdout)
    assert (document["name"], document["hostname"], document["status"]) == (
        "played",
        "testhost",
        "idle",
    )


def test_no_runner_says_how_to_start_one(cli):
    done = cli("runners")
    assert (done.returncode, done.stdout) == (0, "")
    assert "persona-worker" in done.stderr


def test_runners_drain_asks_one_to_finish(cli, runner, conn):
    conn.execute("listen persona_control")
    done = cli("runners", "drain", "played")

    assert (done.returncode, done.stdout) == (0, "runner played is asked to finish\n")
    assert [n.payload for n in conn.notifies(timeout=5, stop_after=1)] == [str(runner.id)]
    assert "draining" in cli("runners").stdout
    assert "1 draining" in cli("status").stdout


def test_runners_all_shows_those_that_have_gone(cli, runner, conn):
    conn.execute("select persona.deregister_runner(%s)", (runner.id,))
    assert cli("runners").stdout == ""
    assert "gone" in cli("runners", "list", "--all").stdout


def test_draining_an_unknown_runner_is_exit_3(cli):
    assert cli("runners", "drain", "nobody").returncode == 3


def test_resource_limits_are_given_as_people_write_them_and_taken_away(cli, queue):
    done = cli(
        "agents", "add", "small", "--memory-limit", "512MB", "--cpu-limit", "1.5", "--nice", "10",
        "--process-limit", "50", "--open-files-limit", "256", "--file-size-limit", "1GB", "--", "x",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "agent small registered\n")
    agent = queue.get_agent("small")
    assert (agent.memory_limit, agent.cpu_limit, agent.process_limit) == (512 << 20, 1.5, 50)
    assert (agent.open_files_limit, agent.file_size_limit, agent.nice) == (256, 1 << 30, 10)
    assert "memory limit       512MB\n" in cli("agents", "show", "small").stdout
    cli("agents", "edit", "small", "--memory-limit", "none", "--nice", "none")
    after = queue.get_agent("small")
    assert (after.memory_limit, after.nice, after.process_limit) == (None, None, 50)

    for option, value, said in (
        ("--memory-limit", "lots", "'lots' is no size"),
        ("--memory-limit", "10", "agents_memory_limit_sensible"),
    ):
        refused = cli("agents", "edit", "small", option, value)
        assert refused.returncode == 2
        assert said in refused.stderr
