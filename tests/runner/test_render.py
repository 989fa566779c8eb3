"""From a claimed job to a command line: placeholders, prompts, environment, folder."""

from __future__ import annotations

import pytest

from persona_pg import settings
from persona_pg.runner import render
from persona_pg.runner.render import RenderError

ENVIRON = {"PATH": "/bin", "HOME": "/home/me"}


def job(**changes):
    return {
        "id": "0197b1c2-0000-7000-8000-00000000abcd", "short_id": "0000abcd", "job_type": "x",
        "agent": "helper", "attempt": 2, "payload": {}, "argv": ["run"], "provider": None,
    } | changes  # fmt: skip


def command(environ=ENVIRON, config=None, timeout=600.0, **changes):
    loaded = settings.load(config or {}, dotenv=None)
    return render.command(job(**changes), loaded, environ, timeout)


def test_each_placeholder_is_one_argument_whatever_is_in_it():
    text = "two words; $(rm) `id` 'quotes' \"more\"\n--flag {vault} 🎉"
    done = command(argv=["say", "{payload.text}", "<{payload.text}>"], payload={"text": text})
    assert done.argv == ("say", text, f"<{text}>")


def test_what_was_filled_in_is_not_looked_at_again():
    done = command(
        argv=["a", "{payload.a}{payload.b}"], payload={"a": "{payload.b}", "b": "{root}{"}
    )
    assert done.argv[1] == "{payload.b}{root}{"


def test_braces_are_written_twice():
    done = command(
        argv=["a", '{{"x": "{payload.n}"}}', "{{vault}}", "a { b } c", "{}"], payload={"n": 5}
    )
    assert done.argv[1:] == ('{"x": "5"}', "{vault}", "a { b } c", "{}")


def test_an_array_becomes_arguments_only_by_three_dots():
    words = ["", "a b", "{vault}", 3, 1.5]
    done = command(argv=["a", "{payload.w...}", "z"], payload={"w": words})
    assert done.argv == ("a", "", "a b", "{vault}", "3", "1.5", "z")
    assert command(argv=["a", "{payload.w}"], payload={"w": [1, "ä"]}).argv[1] == '[1, "ä"]'


@pytest.mark.parametrize("value", [None, "text", {"a": 1}, [["x"]], [None]])
def test_three_dots_want_an_array_of_texts(value):
    with pytest.raises(RenderError, match="payload.argv must be an array of texts"):
        command(argv=["{payload.argv...}"], payload={"argv": value})


@pytest.mark.parametrize("payload", [{"argv": []}, {"argv": [""]}])
def test_an_empty_command_line_is_refused(payload):
    with pytest.raises(RenderError, match="the command line is empty"):
        command(argv=["{payload.argv...}"], payload=payload)


def test_a_payload_without_argv_is_told_by_name():
    with pytest.raises(RenderError, match="payload.argv"):
        command(argv=["{payload.argv...}"], payload={})


def test_an_unknown_placeholder_is_refused_and_told_how_to_mean_it():
    with pytest.raises(RenderError, match=r"unknown placeholder \{user\}; .* write \{\{user\}\}"):
        command(argv=["a", "{user}"])
    with pytest.raises(RenderError, match=r"unknown placeholder \{vault\.x\}"):
        command(argv=["a", "{vault.x}"])


def test_values_that_are_missing_or_no_text():
    payload = {"n": None, "t": True, "o": {"k": "v"}}
    argv = ["a", "{payload.none}", "{payload.n}", "{payload.t}", "{payload.o.k}", "{payload.o.k.x}"]
    assert command(argv=argv, payload=payload).argv[1:] == ("", "", "true", "v", "")


def test_what_the_runner_knows_can_be_named():
    argv = ["a", "{agent}", "{short_id}", "{attempt}", "{timeout}", "{job_type}", "{home}"]
    assert command(argv=argv).argv[1:] == ("helper", "0000abcd", "2", "600", "x", "/home/me")


@pytest.mark.parametrize(
    ("given", "written"), [(600.0, "600"), (0.25, "0.25"), (2592000.0, "2592000"), (12.5, "12.5")]
)
def test_a_timeout_is_written_without_an_exponent(given, written):
    assert command(argv=["a", "{timeout}"], timeout=given).argv[1] == written


def test_the_model_is_the_jobs_agents_or_configured_for_the_provider():
    config = {"CLAUDE_MODEL": "sonnet", "GEMINI_MODEL": "flash"}
    argv = ["a", "{model}"]
    assert command(argv=argv, config=config).argv[1] == "sonnet"
    assert command(argv=argv, config=config, provider="google").argv[1] == "flash"
    assert command(argv=argv, config=config, provider="google", model="pro").argv[1] == "pro"


def test_the_prompt_template_of_the_type_else_the_prompt_itself():
    payload = {"prompt": "plain", "question": "why?"}
    done = command(
        stdin_template="{prompt}", prompt_template="Q: {payload.question}", payload=payload
    )
    assert done.stdin == b"Q: why?"
    assert command(stdin_template="{prompt}", payload=payload).stdin == b"plain"
    assert command(payload=payload).stdin is None


def test_a_prompt_that_looks_like_a_template_arrives_as_it_is():
    text = "what is {prompt}, {unknown}, {{x}} and {payload.prompt}?"
    done = command(stdin_template="{prompt}", payload={"prompt": text})
    assert done.stdin.decode() == text


# -- prompt files and scripts


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "agents" / "helper" / "actions"
    folder.mkdir(parents=True)
    (folder / "daily.md").write_text("Do the {daily} thing.")
    (tmp_path / "agents" / "secret.md").write_text("secret")
    return tmp_path


ACTION = {
    "prompt_file": "{root}/agents/{agent}/actions/{payload.action}.md",
    "script_argv": ["bash", "{root}/scripts/run-agent.sh", "{business}", "{payload.action}", "{timeout}"],
    "stdin_template": "{prompt}",
    "prompt_template": "{payload.prompt}",
}  # fmt: skip


def action(root, name, **changes):
    payload = {"action": name, "prompt": "instead"}
    return command(config={"PERSONA_ROOT": str(root)}, **(ACTION | {"payload": payload} | changes))


def test_the_agents_prompt_file_is_read_and_not_filled_in(root):
    assert action(root, "daily").stdin == b"Do the {daily} thing."


def test_without_the_file_the_prompt_counts(root):
    assert action(root, "weekly").stdin == b"instead"
    assert action(root, "").stdin == b"instead"


@pytest.mark.parametrize("name", ["../../secret", "/etc/passwd", "..", ".hidden", "a/b"])
def test_the_payload_does_not_choose_the_folder(root, name):
    with pytest.raises(RenderError, match="a plain name is needed"):
        action(root, name)


def test_a_name_that_is_too_long_is_the_jobs_fault_not_ours(root):
    with pytest.raises(RenderError, match="cannot be looked at"):
        action(root, "x" * 5000)


def test_the_legacy_script_comes_first_where_it_exists(root):
    (root / "scripts").mkdir()
    (root / "scripts" / "run-agent.sh").write_text("")
    done = action(root, "daily; x --all", business="acme")
    script = str(root / "scripts" / "run-agent.sh")
    assert done.argv == ("bash", script, "acme", "daily; x --all", "600")
    assert done.stdin is None
    with pytest.raises(RenderError, match="would be an option"):
        action(root, "--all", business="acme")


# -- environment and folder


SURROUNDINGS = ENVIRON | {
    "LANG": "C.UTF-8", "LC_ALL": "C", "XDG_RUNTIME_DIR": "/run", "HTTPS_PROXY": "http://p",
    "PERSONA_DATABASE_URL": "postgresql://u:secret@h/d", "PERSONA_HOME": "/h", "PGPASSWORD": "x",
    "PGHOST": "h", "NOTIFY_SOCKET": "/run/n", "WATCHDOG_USEC": "1", "CREDENTIALS_DIRECTORY": "/c",
    "CLAUDECODE": "1", "CLAUDE_CODE_ENTRYPOINT": "cli", "CLAUDE_CODE_SSE_PORT": "1",
    "CLAUDE_CODE_SESSION_ID": "s", "CODEX_SANDBOX": "1", "SUPABASE_KEY": "k", "LD_PRELOAD": "x",
    "ANTHROPIC_API_KEY": "a", "GEMINI_API_KEY": "g", "GOOGLE_API_KEY": "g", "OPENAI_API_KEY": "o",
    "PYTHONPATH": "/x", "SECRET": "s",
}  # fmt: skip


def environment(**changes):
    return command(environ=SURROUNDINGS, **changes).env


def test_of_the_surroundings_only_what_a_program_needs_goes_in():
    env = environment()
    ours = {name: value for name, value in env.items() if name.startswith("PERSONA_")}
    assert set(env) - set(ours) == {
        "PATH", "HOME", "LANG", "LC_ALL", "XDG_RUNTIME_DIR", "HTTPS_PROXY"
    }  # fmt: skip
    assert ours == {
        "PERSONA_JOB_ID": "0197b1c2-0000-7000-8000-00000000abcd",
        "PERSONA_SHORT_ID": "0000abcd",
        "PERSONA_JOB_TYPE": "x",
        "PERSONA_ATTEMPT": "2",
        "PERSONA_AGENT": "helper",
        "PERSONA_WORKDIR": "/home/me",
    }


@pytest.mark.parametrize(
    ("provider", "keys"),
    [
        ("anthropic", {"ANTHROPIC_API_KEY"}),
        ("google", {"GEMINI_API_KEY", "GOOGLE_API_KEY"}),
        ("openai", {"OPENAI_API_KEY"}),
        ("somebody", set()),
    ],
)
def test_a_providers_keys_go_to_its_own_agents_only(provider, keys):
    assert {name for name in environment(provider=provider) if name.endswith("_KEY")} == keys


@pytest.mark.parametrize("provider", ["anthropic", "openai"])
def test_a_session_around_the_runner_is_not_continued(provider):
    env = environment(provider=provider)
    assert not [n for n in env if n.startswith(("CLAUDECODE", "CLAUDE_CODE_S", "CLAUDE_CODE_E"))]
    assert "CODEX_SANDBOX" not in env


def test_what_the_agent_sets_goes_in_but_our_own_names_stay_ours():
    env = environment(env={"TZ": "UTC", "N": 1, "PERSONA_JOB_ID": "forged"})
    assert (env["TZ"], env["N"]) == ("UTC", "1")
    assert env["PERSONA_JOB_ID"].startswith("0197b1c2")


def test_instance_and_folders_are_told_where_they_are_known(tmp_path):
    config = {
        "PERSONA_ROOT": str(tmp_path), "PERSONA_VAULT_PATH": "/v", "PERSONA_BUSINESS": "acme"
    }  # fmt: skip
    env = environment(config=config, workdir="{vault}", parent_job_id="p")
    assert (env["PERSONA_ROOT"], env["PERSONA_VAULT_PATH"]) == (str(tmp_path), "/v")
    assert (env["PERSONA_BUSINESS"], env["PERSONA_WORKDIR"]) == ("acme", "/v")
    assert env["PERSONA_PARENT_JOB_ID"] == "p"
    assert environment(config=config, business="own")["PERSONA_BUSINESS"] == "own"


def test_the_folder_is_the_agents_else_the_home_else_the_root():
    assert command(workdir="{payload.cwd}", payload={"cwd": "/tmp"}).cwd == "/tmp"
    assert command(workdir="{payload.cwd}").cwd == "/home/me"
    assert command(environ={}).cwd == "/"


def test_a_launcher_stands_before_the_command():
    assert command(launcher=["nice", "-n5"], argv=["a", "b"]).argv == ("nice", "-n5", "a", "b")


@pytest.mark.parametrize(
    ("argv", "payload"),
    [
        (["grep", "{payload.q}"], {"q": "--file=/etc/passwd"}),
        (["grep", "{payload.a}{payload.b}"], {"b": "-f"}),
        (["claude", "-p", "{prompt}"], {"prompt": "--dangerously-skip-permissions"}),
        (["rm", "{payload.files...}"], {"files": ["a", "-rf"]}),
    ],
)
def test_a_payload_brings_no_option(argv, payload):
    with pytest.raises(RenderError, match='need "--" before it'):
        command(argv=argv, payload=payload)


def test_after_two_dashes_or_inside_an_argument_a_dash_is_no_option():
    payload = {"q": "-x", "files": ["-rf"]}

    done = command(
        argv=["rm", "--q={payload.q}", "--", "{payload.q}", "{payload.files...}"], payload=payload
    )

    assert done.argv == ("rm", "--q=-x", "--", "-x", "-rf")


def test_a_command_of_an_admin_brings_its_options_with_it():
    done = command(argv=["{payload.argv...}"], payload={"argv": ["ls", "-l"]})

    assert done.argv == ("ls", "-l")


def test_a_secret_is_named_in_the_database_and_read_on_the_runners_machine(tmp_path):
    credentials, home = tmp_path / "credentials", tmp_path / "home"
    for folder, text in ((credentials, "from systemd\n"), (home / "secrets", "from home")):
        folder.mkdir(parents=True)
        (folder / "key").write_text(text)
        (folder / "key").chmod(0o600)
    config = {"PERSONA_HOME": str(home)}
    env = {"KEY": {"secret": "key"}, "PLAIN": {"other": 1}}

    def key(**more):
        return command(environ=ENVIRON | more, config=config, env=env).env["KEY"]

    assert key(CREDENTIALS_DIRECTORY=str(credentials)) == "from systemd"
    # As a unit with LoadCredential=persona:FOLDER gives it.
    (credentials / "key").rename(credentials / "persona_key")
    assert key(CREDENTIALS_DIRECTORY=str(credentials)) == "from systemd"
    assert key() == "from home"
    assert (
        "CREDENTIALS_DIRECTORY"
        not in command(environ=ENVIRON | {"CREDENTIALS_DIRECTORY": "x"}, config=config, env=env).env
    )
    (home / "secrets" / "key").chmod(0o644)
    with pytest.raises(RenderError, match="open to others; chmod 600"):
        key()


@pytest.mark.parametrize("name", ["../key", "/etc/passwd", "", ".env", 5, "nothing"])
def test_a_secret_that_is_no_name_or_not_there_is_told(tmp_path, name):
    with pytest.raises(RenderError, match="secret"):
        command(config={"PERSONA_HOME": str(tmp_path)}, env={"KEY": {"secret": name}})
