"""A runner reduced to its processes: does what its standard input says, and tells about it."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from persona_pg.runner import guarded  # noqa: E402


def child_main(link):
    import asyncio
    import signal

    return asyncio.run(serve(link, asyncio, signal))


async def serve(link, asyncio, signal):  # noqa: C901, PLR0915 a list of commands
    from proctest import ENV

    from persona_pg.runner import lockfile, procfs
    from persona_pg.runner.output import OutputPump
    from persona_pg.runner.process import ChildSpec, Processes

    def say(*words):
        sys.stdout.write(" ".join(map(str, words)) + "\n")
        sys.stdout.flush()

    loop = asyncio.get_running_loop()
    processes = Processes(instance=link.instance)
    link.attach(loop)
    link.on_killed = lambda token: say("killed", token)

    def lost():
        helper = link.restart()
        processes.exempt(helper)
        say("restarted", helper)

    link.on_lost = lost
    for number in guarded.FORWARDED:
        loop.add_signal_handler(number, say, "signal", number.name)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    say("runner", link.instance)
    children = []
    while line := (await commands.readline()).decode():
        command, *rest = line.split(maxsplit=2)
        if command == "spawn":  # spawn SECONDS SCRIPT: the deadline is so far away
            token = processes.new_token()
            link.register(token, procfs.boottime() + float(rest[0]))
            link.announce()
            script = rest[1].encode().decode("unicode_escape")
            child = processes.spawn(ChildSpec(["sh", "-c", script], ENV, token=token))
            link.started(token, child)
            OutputPump(child, limit_bytes=1 << 20, on_line=lambda stream, text, partial: say(text))
            children.append(child)
            say("token", token)
        elif command == "unannounced":  # started, but its registration was never sent
            child = processes.spawn(ChildSpec(["sh", "-c", rest[0] + " " + rest[1]], ENV))
            OutputPump(child, limit_bytes=1 << 20, on_line=lambda stream, text, partial: say(text))
        elif command == "renew":
            link.renew_all({c.token: procfs.boottime() + float(rest[0]) for c in children})
            say("renewed")
        elif command == "stop":
            for child in children:
                await processes.stop(child, 0)
                link.release(child.token)
            say("stopped")
        elif command == "lock":
            lock = lockfile.acquire(Path(rest[0]), instance=link.instance)
            if isinstance(lock, lockfile.HeldBy):
                say("held", lock.owner.pid)
            else:
                link.hold(lock.fd)
                say("locked", lock.may_take_over, *lock.left_instances)
        elif command == "exit":
            return int(rest[0])
    return 0


if __name__ == "__main__":
    sys.exit(guarded.run(child_main))
