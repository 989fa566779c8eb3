"""P8: bounded memory, fair and complete, whatever a job prints."""

from __future__ import annotations

import asyncio
import hashlib
import resource
import time

from proctest import Job, isolated, python, sh, until


async def printed(processes, code, **options):
    job = Job(processes, python(code), **options)
    status, lines = await job.end()
    assert status.code == 0, lines
    return job, lines


def test_lines_of_both_streams_in_their_order():
    async def scenario(processes):
        script = "echo one; echo two >&2; printf 'three\\r\\n\\nno newline'"
        _, lines = await Job(processes, sh(script)).end()
        assert [text for stream, text, _ in lines if stream == "stdout"] == [
            "one",
            "three",
            "",
            "no newline",
        ]
        assert [line for line in lines if line[0] == "stderr"] == [("stderr", "two", False)]

    isolated(scenario)


def test_broken_and_split_characters_and_nuls_become_text():
    async def scenario(processes):
        code = r"""
            import os, time
            penguin = "\N{PENGUIN}".encode()
            for byte in penguin:            # a character in four reads
                os.write(1, bytes([byte])); time.sleep(0.02)
            os.write(1, b"\n" + b"a\0b\n" + b"\xff\xfe bad\n" + b"\xed\xa0\x80\n" + penguin[:2])
        """
        _, lines = await printed(processes, code)
        assert [text for _, text, _ in lines] == [
            "\N{PENGUIN}",
            "a�b",
            "�� bad",
            "���",
            "�",
        ]
        for _, text, _ in lines:
            text.encode()  # no lone surrogate

    isolated(scenario)


def test_a_long_line_comes_in_pieces():
    async def scenario(processes):
        code = "import os; os.write(1, b'x' * 40000 + b'\\nshort\\n')"
        _, lines = await printed(processes, code)
        assert [(len(text), partial) for _, text, partial in lines] == [
            (16384, True),
            (16384, True),
            (7232, False),
            (5, False),
        ]

    isolated(scenario)


def test_a_line_without_end_is_told_while_it_grows():
    async def scenario(processes):
        job = Job(processes, python("import os, time; os.write(1, b'x' * 40000); time.sleep(1000)"))
        assert [len(await job.line()), len(await job.line())] == [16384, 16384]
        await processes.stop(job.child, 0)
        _, lines = await job.end()
        assert [(len(text), partial) for _, text, partial in lines] == [(7232, False)]

    isolated(scenario)


def test_of_a_progress_bar_the_last_state_is_told():
    async def scenario(processes):
        code = r"""
            import os, time
            for percent in range(0, 101, 10):
                os.write(1, b"\rdone %d %%" % percent); time.sleep(0.003)
            os.write(1, b"\nnext\r\n")
        """
        _, lines = await printed(processes, code)
        assert [text for _, text, _ in lines] == ["done 100 %", "next"]

    isolated(scenario)


def test_what_stands_without_a_newline_can_be_told_early():
    async def scenario(processes):
        job = Job(processes, sh("printf 'Password: '; exec sleep 1000"))
        await until(lambda: job.pump.total["stdout"] == 10)
        assert job.all_lines() == []
        job.pump.flush_partial()
        assert job.all_lines() == [("stdout", "Password: ", True)]
        await processes.stop(job.child, 0)
        await job.end()

    isolated(scenario)


def test_beyond_the_limit_lines_end_and_the_tap_goes_on():
    async def scenario(processes):
        tapped = hashlib.sha256()
        code = (
            "import os\nfor i in range(3000): os.write(1, b'%09d\\n' % i)\nos.write(2, b'fine\\n')"
        )
        job, lines = await printed(
            processes,
            code,
            limit_bytes=10_005,
            on_bytes=lambda stream, data: tapped.update(data) if stream == "stdout" else None,
        )
        everything = b"".join(b"%09d\n" % i for i in range(3000))
        assert tapped.hexdigest() == hashlib.sha256(everything).hexdigest()
        out = [text for stream, text, _ in lines if stream == "stdout"]
        assert out == [f"{i:09d}" for i in range(1000)] + ["00000"]
        assert ("stderr", "fine", False) in lines
        assert job.notices == [
            ("stdout", "warn", "stdout is cut here: more than 10005 bytes"),
            ("stdout", "info", "19995 bytes of stdout were discarded"),
        ]
        assert job.pump.total == {"stdout": 30_000, "stderr": 5}
        assert job.pump.discarded == {"stdout": 19_995, "stderr": 0}

    isolated(scenario)


def test_exactly_the_limit_is_no_excess():
    async def scenario(processes):
        job, lines = await printed(processes, "print('x' * 99)", limit_bytes=100)
        assert (len(lines), job.notices) == (1, [])

    isolated(scenario)


def test_two_gigabytes_in_one_line_are_drained_at_speed_in_little_memory():
    def scenario_with(tap):
        async def scenario(processes):
            # Every write is one chunk; `yes | tr` would measure tr.
            code = "import os\nb = b'x' * 65536\nfor _ in range(32768): os.write(1, b)"
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            began = time.monotonic()
            job, lines = await printed(processes, code, limit_bytes=10_000_000, on_bytes=tap)
            seconds = time.monotonic() - began
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            assert job.pump.total["stdout"] == 1 << 31
            assert sum(len(text) for _, text, _ in lines) == 10_000_000
            return (1 << 31) / seconds / 1e6, peak - before

        return scenario

    for tap in (None, lambda stream, data: None):
        megabytes_per_second, kilobytes = isolated(scenario_with(tap))
        print(f"{megabytes_per_second:.0f} MB/s, {kilobytes} KB more")
        assert kilobytes < 30_000  # ten of them are the test's own list of lines
        assert megabytes_per_second > 100  # the bar is 300; this machine may be busy


def test_a_flood_does_not_starve_the_others():
    async def scenario(processes):
        floods = [Job(processes, sh("exec cat /dev/zero"), limit_bytes=1000) for _ in range(3)]
        await until(lambda: all(job.pump.total["stdout"] > 1 << 24 for job in floods))
        quiet = Job(processes, sh("echo hello"))
        began = time.monotonic()
        assert await quiet.line() == "hello"
        print(f"{1000 * (time.monotonic() - began):.1f} ms beside three floods")
        await quiet.end()
        for job in floods:
            await processes.stop(job.child, 0)
            await job.end()

    isolated(scenario)


def test_a_paused_pump_makes_the_job_wait_and_loses_nothing():
    async def scenario(processes):
        code = "import os\nfor i in range(200_000): os.write(1, b'%09d\\n' % i)"
        job = Job(processes, python(code), limit_bytes=10_000_000)
        job.pump.pause()
        await asyncio.sleep(0.2)
        assert job.pump.total["stdout"] == 0
        assert not job.child.has_exited
        job.pump.resume()
        _, lines = await job.end()
        assert [text for _, text, _ in lines] == [f"{i:09d}" for i in range(200_000)]

    isolated(scenario)


def test_a_stranger_who_holds_the_pipe_does_not_keep_the_job():
    async def scenario(processes):
        # Hand the job's stdout to a process that is not below it, as a daemon would get it.
        job = Job(processes, sh("exec sleep 1000"))
        take = f"exec 5>/proc/{job.child.pid}/fd/1; echo held; exec sleep 1000"
        stranger = await asyncio.create_subprocess_exec(
            "sh", "-c", take, stdout=asyncio.subprocess.PIPE
        )
        processes.exempt(stranger.pid)
        assert await stranger.stdout.readline() == b"held\n"
        await processes.stop(job.child, 0)
        assert not job.pump.is_ended
        began = time.monotonic()

        await job.pump.finish(0.3)

        assert 0.2 < time.monotonic() - began < 2
        assert job.pump.is_ended
        stranger.kill()
        await stranger.wait()

    isolated(scenario)


def test_a_grandchild_with_our_stdout_does_not_keep_the_job():
    async def scenario(processes):
        job = Job(processes, sh("(setsid sleep 1000 &); echo done", stray_grace=0.1))
        began = time.monotonic()
        status, lines = await job.end()
        assert time.monotonic() - began < 3
        assert lines == [("stdout", "done", False)]
        assert len(status.strays) == 1

    isolated(scenario)


def test_the_last_words_are_read_although_nobody_closed_the_pipe():
    async def scenario(processes):
        job = Job(processes, sh("echo last words; exec sleep 1000"))
        job.pump.pause()  # so that it is all still in the pipe
        await asyncio.sleep(0.1)
        await processes.stop(job.child, 0)
        await job.pump.finish(0)
        assert job.all_lines() == [("stdout", "last words", False)]

    isolated(scenario)


def test_silence_is_measured_from_the_last_output():
    async def scenario(processes):
        job = Job(processes, sh("echo one; exec sleep 1000"))
        begun = job.pump.last_output_at
        assert begun <= time.monotonic()
        await job.line()
        first = job.pump.last_output_at
        assert first > begun
        await asyncio.sleep(0.05)
        assert job.pump.last_output_at == first
        await processes.stop(job.child, 0)

    isolated(scenario)


def test_an_idle_job_costs_little_memory():
    async def scenario(processes):
        def rss():
            with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123
                return int(file.read().split()[1]) * 4096

        async def start(count):
            jobs = [Job(processes, sh("echo up; exec sleep 1000")) for _ in range(count)]
            for job in jobs:
                await job.line()
            return jobs

        jobs = await start(20)
        before = rss()
        jobs += await start(200)
        each = (rss() - before) / 200
        print(f"{each / 1024:.1f} KB a job")
        assert each < 30_000
        for job in jobs:
            processes.begin_stop(job.child, 0)
        await until(lambda: not processes.children)

    isolated(scenario)
