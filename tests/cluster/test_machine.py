"""On a machine of its own with a real systemd: installed as docs/setup.md says, run as a service.

bin/test --cluster tests/cluster/test_machine.py -s
(root; Debian: apt-get install mmdebstrap systemd-container; the first run makes the machine)
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from agents import programs
from agents.standin import ANSWER, Standin
from cluster.machine import Machine
from docs.blocks import blocks_of
from pgtest import ROOT, eventually, processes_of

pytestmark = pytest.mark.timeout(600)

URL = "postgresql://runner:secret@127.0.0.1/persona"
UNIT = "persona-runner@main"
AGENTS = "/opt/agents"
PERSON = "export PERSONA_DATABASE_URL='host=/var/run/postgresql dbname=persona' PATH=$HOME/.local/bin:$PATH\n"


def documented(heading, beginning):
    """Return the block of docs/setup.md below *heading* that begins with these words."""
    _, _, text = (ROOT / "docs" / "setup.md").read_text().partition(f"\n{heading}\n")
    return next(block.text for block in blocks_of(text) if block.text.startswith(beginning))


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    """Boot one on which a person who may use sudo has this checkout."""
    folder = tmp_path_factory.mktemp("machine")
    checkout = folder / "checkout"
    checkout.mkdir()
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    subprocess.run(
        ["tar", "-C", ROOT, "--null", "-T", "-", "--ignore-failed-read", "-cf", folder / "tar"],
        input=files,
        check=True,
    )
    subprocess.run(["tar", "-C", checkout, "-xf", folder / "tar"], check=True)
    node = Path(shutil.which("node") or "/usr/bin/node").resolve()
    shown = {"/usr/local/src/persona-pg": checkout, "/usr/local/bin/node": node}
    for program in programs.PACKAGES:
        with suppress(LookupError):
            shown[AGENTS] = programs.find(program).parents[3]
    made = Machine(folder, {k: v for k, v in shown.items() if v.exists()})
    try:
        made.run(
            "useradd --create-home --shell /bin/bash me; echo 'me ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/me;"
            "cp -r /usr/local/src/persona-pg /home/me/; chown -R me: /home/me/persona-pg; apt-get -qq update"
        )
        yield made
    finally:
        made.close()


@pytest.fixture(scope="module")
def by_apt(machine):
    """Debian's PostgreSQL, and the rest as the person installs it; what they have seen."""
    block = documented("## Install", "sudo apt-get install")
    return machine.run(
        f"set -e; export DEBIAN_FRONTEND=noninteractive; cd persona-pg\n{block}",
        user="me",
        timeout=500,
    )


@pytest.fixture(scope="module")
def me(machine, by_apt):
    """Run a script as the person who has installed it."""
    return lambda script, **options: machine.ask(PERSON + script, user="me", **options)


def test_with_apt_alone(machine, by_apt, me, capsys):
    with capsys.disabled():
        print(f"\n{by_apt.stdout}{by_apt.stderr}"[-3000:])
    assert re.search(r"(?m)^status +completed$", by_apt.stdout)
    assert me("persona db status --json | head -c1") in "{["


# What an administrator may say besides, in a drop-in: so that these tests take seconds.
DROP_IN = """
[Service]
WatchdogSec=8
RestartSec=1
Environment=WORKER_DRAIN_TIMEOUT=6s JOB_KILL_GRACE=2s JOB_HEARTBEAT_INTERVAL=2s JOB_HUNG_TIMEOUT=12s
"""
# Two that survive what ends a process group, one of them deaf.
STRAYS = "(setsid sh -c \"trap '' TERM; sleep 4711\" &) ; setsid -f sleep 4711; sleep 4711"


@pytest.fixture(scope="module")
def service(machine, me):
    """The runner of the machine, as documented for a server; its role may be a runner and nothing else."""
    grant = "create role runner login password 'secret'; grant persona_runner to runner"
    me(f'psql -X -q -d "$PERSONA_DATABASE_URL" -c "{grant}"')
    block = documented("## A runner as a service", "useradd --system")
    block = block.replace("'persona-pg'", "/home/me/persona-pg").replace(
        "postgresql://runner:password@db.example/persona", URL
    )
    # A Debian has no claude: served are agents whose programs are there.
    block = block.replace("--pass ANTHROPIC_API_KEY", "--agent script --agent told")
    assert URL in block
    assert "--agent told" in block
    me(
        "for name in script told; do persona agents add $name --admin-only --max-attempts 3 -- sh -c '{prompt}'; done;"
        "persona agents edit told --secret TOKEN=token"
    )
    machine.run(
        f"mkdir -p /etc/persona/main /etc/systemd/system/{UNIT}.service.d; umask 077; echo s3cret > /etc/persona/main/token;"
        f"printf %s {shlex.quote(DROP_IN)} > /etc/systemd/system/{UNIT}.service.d/short.conf"
    )
    return machine.run(f"set -e\n{block}", timeout=300)


class Runner:
    """The service, and the jobs that it is given."""

    def __init__(self, machine, me):
        self.machine = machine
        self.me = me

    def systemctl(self, *words, **options):
        return self.machine.ask(f"systemctl {' '.join(words)} {UNIT}", **options)

    def show(self, name):
        return self.systemctl("show", "--value", "-p", name)

    def create(self, script, agent="script", *options):
        payload = shlex.quote(json.dumps({"prompt": script}))
        return self.me(f"persona create -t t -a {agent} --payload {payload} {' '.join(options)}")

    def job(self, ident):
        return json.loads(self.me(f"persona info --json {ident}"))

    def logs(self, ident):
        return self.me(f"persona logs {ident}")

    def run(self, script, agent="script"):
        ident = self.create(script, agent)
        self.me(f"persona wait {ident}", check=False)
        return self.logs(ident)

    def running(self, ident):
        """Wait until it has printed `begun`."""
        eventually(lambda: "begun" in self.logs(ident), 60, interval=0.2, what=self.journal)
        return ident

    def processes(self, ident):
        """Those of a job: the host sees the machine's."""
        strays = ["sleep", "4711"]
        return [
            *processes_of("-", [ident]),
            *(p for p in psutil.process_iter(["cmdline"]) if p.info["cmdline"] == strays),
        ]

    def journal(self):
        return self.machine.ask(f"journalctl -u {UNIT} --no-pager -n 40")

    def guardian(self):
        """Return the host's view of the unit's main process; the runner is its child."""
        inside = self.show("MainPID")
        for process in psutil.Process(self.machine.pid).children(recursive=True):
            status = Path(f"/proc/{process.pid}/status").read_text()
            if re.search(rf"^NSpid:.*\t{inside}$", status, re.MULTILINE):
                return process
        raise AssertionError(f"no process {inside} in there")


@pytest.fixture(scope="module")
def runner(machine, me, service):
    return Runner(machine, me)


def test_the_service_is_ready_as_it_was_documented(service, runner, capsys):
    names = "ActiveState,SubState,Type,NRestarts,StatusText,User,WatchdogUSec,Delegate,ControlGroup"
    shown = runner.systemctl("show", "-p", names)
    with capsys.disabled():
        print(f"\n{service.stdout}{service.stderr}\n{shown}\n{runner.journal()}")
    assert "ActiveState=active\nSubState=running" in shown
    assert "process control: cgroup" in runner.journal()


def test_a_job_runs_as_its_user_in_the_sandbox(runner):
    seen = runner.run("""
      id -un; pwd; grep ^0:: /proc/self/cgroup; grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status
      for folder in /etc /usr /opt /var/lib /home; do touch $folder/x; done 2>&1 | grep -vc 'Read-only\\|denied'
      touch mine && echo wrote its home
      echo sees $(ps -e -o user= | grep -vc persona) processes of others
      unshare --user true && echo made a namespace
      node -e 'console.log("node", eval("6 * 7"), Object.keys(os.networkInterfaces()).length > 0)'
      echo $PERSONA_DATABASE_URL
    """)  # fmt: skip

    assert seen.startswith("persona\n/var/lib/persona/main\n0::/system.slice/")
    assert re.search(rf"/{UNIT}\.service/persona-\w+-\w+\n", seen), seen
    for line in ("NoNewPrivs:\t1", "Seccomp:\t2", "CapBnd:\t0000000000000000", "\n0\nwrote its home",
                 "sees 0 processes of others", "made a namespace", "node 42 true"):  # fmt: skip
        assert line in seen, seen
    assert "postgresql://" not in seen


def test_a_credential_reaches_the_agent_that_names_it(runner):
    script = 'echo "token: ${TOKEN:-none}; folder: ${CREDENTIALS_DIRECTORY:-none}"'
    assert "token: s3cret; folder: none" in runner.run(script, "told")
    assert "token: none; folder: none" in runner.run(script)


def test_the_doctor_finds_in_the_units_surroundings_what_the_runner_uses(machine, runner):
    properties = "-p User=persona -p Delegate=yes -p StateDirectory=persona/main -p LoadCredential=persona:/etc/persona/main"
    home = "-p EnvironmentFile=/etc/persona/main.env -E PERSONA_HOME=/var/lib/persona/main -E HOME=/var/lib/persona/main"
    said = machine.ask(
        f"systemd-run --quiet --wait --pipe --collect {properties} {home} /opt/persona-pg/bin/persona doctor"
    )
    assert re.search(r"(?m)^ok +process control +cgroup$", said), said
    assert re.search(r"(?m)^ok +secrets +1 named by agents, all here$", said), said


@pytest.mark.parametrize("program", programs.PACKAGES)
def test_an_agent_program_works_in_the_sandbox(runner, tmp_path, program):
    """Against a stand-in for its provider, with the settings that it needs for that."""
    try:
        argv = programs.argv(program, f"{program}-json")
    except LookupError as exc:
        pytest.skip(str(exc))
    argv[0] = f"{AGENTS}/{program}/node_modules/.bin/{program}"
    with Standin() as provider:
        variables = programs.settings(program, tmp_path, provider.url("good"))
        script = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in variables.items())
        for file in filter(Path.is_file, tmp_path.rglob("*")):
            there = file.relative_to(tmp_path)
            script += (
                f"mkdir -p {there.parent}; printf %s {shlex.quote(file.read_text())} > {there}\n"
            )
        seen = runner.run(f"{script}echo Why? | {shlex.join(argv)}")

    assert ANSWER in seen, seen


def test_a_stop_lets_jobs_finish_and_gives_back_what_takes_too_long(runner):
    short = runner.running(runner.create("echo begun; sleep 2"))
    long = runner.running(runner.create(f"trap '' TERM; echo begun; {STRAYS}"))

    began = time.monotonic()
    runner.systemctl("stop")
    took = time.monotonic() - began

    assert runner.show("Result") == "success"
    assert took < 6 + 2 + 20  # the drain, the grace, and last words: TimeoutStopSec
    assert runner.processes(long) == []
    assert runner.job(short)["status"] == "completed"
    given_back = runner.job(long)
    assert (given_back["status"], given_back["attempt"]) == ("pending", 0)
    runner.systemctl("start")
    runner.me(f"persona kill {long}")


@pytest.mark.parametrize("who", ["the runner", "the guardian", "both", "a runner that hangs"])
def test_a_killed_service_starts_again_and_leaves_no_process(runner, who):
    job = runner.running(runner.create(f"trap '' TERM; echo begun; {STRAYS}"))
    before = {p.pid for p in runner.processes(job)}
    restarts = int(runner.show("NRestarts"))
    guardian = runner.guardian()
    [inner] = [p for p in guardian.children() if "persona-worker" in " ".join(p.cmdline())]

    if who == "a runner that hangs":
        inner.suspend()  # which feeds no watchdog
    else:
        if who != "the guardian":
            inner.kill()
        if who != "the runner":
            guardian.kill()

    eventually(
        lambda: int(runner.show("NRestarts")) == restarts + 1, 60, interval=0.1, what=runner.journal
    )
    assert before
    assert not before & set(psutil.pids())
    # Another execution, and no attempt is counted for the one before.
    eventually(lambda: runner.processes(job), 60, interval=0.2, what=runner.journal)
    assert [a["outcome"] for a in runner.job(job)["attempts"]] == ["orphaned"]
    runner.me(f"persona kill {job}")
    found = runner.machine.ask(f"journalctl PERSONA_JOB_ID={job} -o json --no-pager")
    entries = [json.loads(line) for line in found.splitlines()]
    assert any(
        e["PERSONA_RUNNER"] == "machine-main" and e["_SYSTEMD_UNIT"] == f"{UNIT}.service"
        and e["PERSONA_SHORT_ID"] in e["MESSAGE"] and e["PERSONA_STATUS"] == "pending"
        for e in entries
    ), found  # fmt: skip


def test_a_service_of_the_person_hands_jobs_to_scopes_of_their_own(machine, runner, me):
    """The user's unit, and `systemd-run --scope` as a launcher: in a group where the runner kills nobody."""
    machine.run("loginctl enable-linger me")
    here = "export XDG_RUNTIME_DIR=/run/user/$(id -u)\n"
    eventually(
        lambda: me(here + "systemctl --user is-system-running", check=False) == "running", 60
    )
    me(
        here
        + "persona agents add scoped --admin-only --max-attempts 1 --launcher 'systemd-run --user --scope --quiet'"
        " -- sh -c '{prompt}'; persona service install --user --name mine --agent scoped"
    )
    assert "active" in me(here + "persona service status")

    said = runner.create("grep ^0:: /proc/self/cgroup; exit 5", "scoped")
    me(f"persona wait {said}", check=False)
    assert re.search(r"/app\.slice/run-\w+\.scope", runner.logs(said)), runner.logs(said)
    assert runner.job(said)["exitCode"] == 5
    told = runner.running(
        runner.create("trap 'echo told; exit 3' TERM; echo begun; sleep 4711 & wait", "scoped")
    )
    deaf = runner.running(runner.create(f"trap '' TERM; echo begun; {STRAYS}", "scoped"))
    me(f"persona kill {told} {deaf}; persona wait {told} {deaf}", check=False)
    assert "told" in runner.logs(told)
    assert runner.job(told)["exitCode"] == 3
    eventually(lambda: not runner.processes(told) and not runner.processes(deaf), 30)
    removed = me(here + "persona service uninstall")
    assert "removed" in removed


def test_uninstalling_leaves_secrets_and_takes_the_rest(machine, runner):
    machine.run("/opt/persona-pg/bin/persona service uninstall --system")

    left = machine.ask(
        f"ls /etc/persona /etc/persona/main; ls /etc/systemd/system; systemctl is-active {UNIT}",
        check=False,
    )
    assert "token" in left
    assert "main.env" not in left
    assert "persona-runner@.service" not in left
    assert left.endswith("inactive")
