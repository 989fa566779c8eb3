"""The runner's own log: as JSON lines from a real runner, and as entries of a real journal socket."""

from __future__ import annotations

import io
import json
import logging
import os
import socket
import struct
import sys

import pytest

from persona_pg.runner import logs

JOB = {
    "id": "01a2",
    "short_id": "a2",
    "job_type": "t",
    "agent": "a",
    "attempt": 2,
    "payload": {"k": 1},
}


def entry(data):
    """Read an entry as journald does."""
    fields = {}
    while data:
        name, _, rest = data.partition(b"\n")
        if b"=" in name:
            key, _, value = name.partition(b"=")
            data = rest
        else:
            key, length = name, struct.unpack("<Q", rest[:8])[0]
            value, data = rest[8 : 8 + length], rest[9 + length :]
        fields[key.decode()] = value.decode()
    return fields


@pytest.fixture
def journal(tmp_path):
    path = tmp_path / "journal"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(path))
        listening.settimeout(5)
        yield path, listening


@pytest.fixture
def logger():
    found = logging.getLogger("of a test")
    found.propagate = False
    yield found
    for handler in list(found.handlers):
        found.removeHandler(handler)
        handler.close()


def test_the_journal_gets_fields_and_texts_of_many_lines(journal, logger):
    path, listening = journal
    logger.addHandler(logs.Journal("edge", instead=logging.NullHandler(), path=str(path)))

    logger.warning("job %s: two\nlines", "a2", extra=logs.about(JOB, status="failed"))
    logger.error("plain = text")

    first, second = (entry(listening.recv(1 << 16)) for _ in range(2))
    assert first == {
        "MESSAGE": "job a2: two\nlines", "PRIORITY": "4", "SYSLOG_IDENTIFIER": "persona-worker",
        "PERSONA_RUNNER": "edge", "PERSONA_JOB_ID": "01a2", "PERSONA_SHORT_ID": "a2",
        "PERSONA_JOB_TYPE": "t", "PERSONA_AGENT": "a", "PERSONA_ATTEMPT": "2",
        "PERSONA_STATUS": "failed",
    }  # fmt: skip
    assert (second["MESSAGE"], second["PRIORITY"]) == ("plain = text", "3")


def test_without_a_journal_the_line_goes_where_it_went_before(tmp_path, logger):
    stream = io.StringIO()
    instead = logging.StreamHandler(stream)
    logger.addHandler(logs.Journal("edge", instead=instead, path=str(tmp_path / "nobody")))

    logger.error("still said")

    assert stream.getvalue() == "still said\n"


def test_a_stream_that_systemd_reads_is_known_by_its_file(tmp_path):
    with (tmp_path / "stderr").open("w") as stream:
        status = os.fstat(stream.fileno())
        ours = {"JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        assert logs._is_journal(ours, stream)
        assert not logs._is_journal(ours, sys.__stdin__)
        assert not logs._is_journal({}, stream)


def test_a_runner_writes_an_object_a_line_and_says_which_job(worker, jobs):
    job = jobs.sh("exit 3", max_attempts=1)
    one = worker("--once", "--verbose", "--name", "edge", env={"PERSONA_LOG_FORMAT": "json"})
    assert one.wait(60) == 0

    lines = [json.loads(line) for line in one.output().splitlines()]

    assert {line["runner"] for line in lines} == {"edge"}
    assert all(line["time"].endswith("+00:00") and line["level"] for line in lines)
    [started] = [line for line in lines if "started" in line["message"]]
    assert (started["job_id"], started["agent"], started["attempt"]) == (job, "command", 1)
    [ended] = [line for line in lines if line.get("status") == "failed"]
    assert ended["job_id"] == job
