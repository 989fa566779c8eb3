"""Every wrong configuration value is refused by name, and .env files are found and read."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_pg import settings as module
from persona_pg.errors import ConfigurationError
from persona_pg.settings import Settings, format_duration, format_size, load, parse_duration

WRONG = [
    ("PERSONA_DATABASE_URL", "localhost"),
    ("PERSONA_DATABASE_URL", "postgresql://host:port:port/x"),
    ("PERSONA_HOME", "relative/folder"),
    ("PERSONA_ROOT", "/etc/passwd"),
    ("PERSONA_VAULT_PATH", "vault"),
    ("PERSONA_VAULT_NAME", "a/b"),
    ("PERSONA_BUSINESS", "a b"),
    ("JOB_HEARTBEAT_INTERVAL", "soon"),
    ("JOB_HEARTBEAT_INTERVAL", "-5"),
    ("JOB_HEARTBEAT_INTERVAL", "0"),
    ("JOB_HUNG_TIMEOUT", "10 minutes"),
    ("JOB_HUNG_TIMEOUT", "60"),
    ("JOB_TIMEOUT", "0"),
    ("JOB_TIMEOUT", "1e3"),
    ("JOB_IDLE_TIMEOUT", "sometimes"),
    ("JOB_MAX_ATTEMPTS", "0"),
    ("JOB_MAX_ATTEMPTS", "2.5"),
    ("JOB_KILL_GRACE", "1h"),
    ("JOB_OUTPUT_LIMIT", "10XB"),
    ("JOB_OUTPUT_LIMIT", "2GB"),
    ("JOB_PROCESS_CONTROL", "docker"),
    ("JOB_LOG_RETENTION_DAYS", "forever"),
    ("WORKER_CONCURRENCY", "0"),
    ("WORKER_CONCURRENCY", "\u0663"),
    ("WORKER_POLL_INTERVAL", "1ms"),
    ("WORKER_DRAIN_TIMEOUT", "nan"),
    ("PERSONA_LOG_FORMAT", "xml"),
    ("CLAUDE_MODEL", "--dangerously"),
    ("GEMINI_MODEL", "a b"),
    ("ALERT_WEBHOOK_URL", "ftp://x"),
    ("ALERT_SMTP_URL", "mail.example"),
    ("ALERT_MAIL_TO", "nobody"),
    ("SUPABASE_URL", "x.supabase.co"),
]


@pytest.mark.parametrize("name, value", WRONG)
def test_a_wrong_value_is_refused_with_its_name_and_what_is_allowed(name, value):
    with pytest.raises(ConfigurationError) as caught:
        load({name: value}, dotenv=None)

    message = str(caught.value)
    assert message.startswith(f"{name}: ")
    assert "must be" in message
    assert "\n" not in message
    assert caught.value.exit_code == 78


def test_every_variable_but_none_has_a_wrong_value_above():
    assert {name for name, _, _ in module.variables()} == {name for name, _ in WRONG}


def test_secrets_are_not_repeated_in_the_message():
    with pytest.raises(ConfigurationError) as caught:
        load({"PERSONA_DATABASE_URL": "postgresql://u:hunter2@h:notaport:1/x"}, dotenv=None)

    assert "hunter2" not in str(caught.value)


def test_the_defaults_are_those_of_the_documentation():
    settings = load({}, dotenv=None)

    assert settings.database_url is None
    assert settings.heartbeat_interval == timedelta(seconds=30)
    assert settings.hung_timeout == timedelta(seconds=300)
    assert settings.job_timeout == timedelta(seconds=600)
    assert settings.job_idle_timeout is None
    assert settings.max_attempts is None
    assert settings.kill_grace == timedelta(seconds=10)
    assert settings.output_limit == 10 * 1024 * 1024
    assert settings.log_retention_days == 30
    assert settings.worker_concurrency == 3
    assert settings.poll_interval == timedelta(seconds=5)
    assert settings.drain_timeout == timedelta(seconds=300)
    assert (settings.claude_model, settings.gemini_model) == ("opus", "pro")


def test_units_and_words_are_read():
    settings = load(
        {
            "JOB_TIMEOUT": "5m",
            "JOB_IDLE_TIMEOUT": "90",
            "JOB_OUTPUT_LIMIT": "512 kB",
            "WORKER_POLL_INTERVAL": "never",
            "JOB_HEARTBEAT_INTERVAL": " 1.5s ",
            "JOB_KILL_GRACE": "",
        },
        dotenv=None,
    )

    assert settings.job_timeout == timedelta(minutes=5)
    assert settings.job_idle_timeout == timedelta(seconds=90)
    assert settings.output_limit == 512 * 1024
    assert settings.poll_interval is None
    assert settings.heartbeat_interval == timedelta(seconds=1.5)
    assert settings.kill_grace == timedelta(seconds=10)


def test_a_lease_shorter_than_three_heartbeats_and_the_grace_is_refused():
    assert load({"JOB_HUNG_TIMEOUT": "100"}, dotenv=None)

    with pytest.raises(ConfigurationError, match=r"JOB_HUNG_TIMEOUT: .*'99'.* at least 100s"):
        load({"JOB_HUNG_TIMEOUT": "99"}, dotenv=None)


def test_supabase_without_a_connection_string_says_where_to_find_one():
    url = {"SUPABASE_URL": "https://x.supabase.co"}

    with pytest.raises(ConfigurationError, match=r"^SUPABASE_URL: .*Session pooler") as caught:
        load(url, dotenv=None)

    assert caught.value.exit_code == 78
    assert load({**url, "PERSONA_DATABASE_URL": "postgresql://h/x"}, dotenv=None).supabase_url


def test_the_environment_wins_over_the_file_and_the_source_is_known(tmp_path):
    file = tmp_path / ".env"
    file.write_text('JOB_TIMEOUT=5m\nexport WORKER_CONCURRENCY="7"  # seven\nPGHOST=/run\n')

    settings = load({"JOB_TIMEOUT": "9m", "WORKER_CONCURRENCY": ""}, dotenv=file)

    assert settings.job_timeout == timedelta(minutes=9)
    assert settings.worker_concurrency == 7
    assert settings.sources == {"JOB_TIMEOUT": "environment", "WORKER_CONCURRENCY": str(file)}
    assert settings.libpq_from_file == {"PGHOST": "/run"}


def test_a_dollar_sign_in_a_password_stays(tmp_path):
    file = tmp_path / ".env"
    file.write_text("PERSONA_DATABASE_URL=postgresql://u:a${HOME}b$1@h/x\n")

    assert load({}, dotenv=file).database_url == "postgresql://u:a${HOME}b$1@h/x"


def test_the_file_is_looked_for_in_the_named_place_then_checkout_then_home(tmp_path, monkeypatch):
    home, root, named = (tmp_path / name for name in ("home", "root", "named.env"))
    for folder in (home, root):
        folder.mkdir()
    (home / ".env").write_text("WORKER_CONCURRENCY=1\n")
    environ = {"PERSONA_HOME": str(home)}
    monkeypatch.setattr(module, "checkout_root", lambda: root)

    assert load(environ).worker_concurrency == 1
    (root / ".env").write_text("WORKER_CONCURRENCY=2\n")
    assert load(environ).worker_concurrency == 2
    named.write_text("WORKER_CONCURRENCY=4\n")
    assert load({**environ, "PERSONA_ENV_FILE": str(named)}).worker_concurrency == 4


def test_a_named_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match="PERSONA_ENV_FILE: the file '.*missing' cannot"):
        load({"PERSONA_ENV_FILE": str(tmp_path / "missing")})


def test_home_is_the_users_data_folder(monkeypatch):
    monkeypatch.setattr(module.sys, "platform", "linux")
    monkeypatch.setenv("HOME", "/home/ada")
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert Settings().home == Path("/home/ada/.local/share/persona")

    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert Settings().home == Path("/data/persona")


@given(st.integers(1, 10**6))
def test_a_duration_is_written_as_it_is_read(seconds):
    value = timedelta(seconds=seconds)

    assert parse_duration(format_duration(value)) == value


@given(st.integers(0, 1 << 50))
def test_a_size_is_written_as_it_is_read(size):
    assert module.parse_size(format_size(size)) == size


@given(st.text(max_size=20))
def test_any_text_is_either_a_duration_or_refused_cleanly(text):
    with contextlib.suppress(ValueError):
        assert parse_duration(text) >= timedelta(0)
