"""resolve_job: what people type for a job."""

from __future__ import annotations

import uuid

import pytest
from sqltest import refused

ONE = uuid.UUID("01900000-0000-7000-8000-00000000abcd")
TWO = uuid.UUID("01900000-0000-7000-8000-00000000abce")
THREE = uuid.UUID("01911111-0000-7000-8000-0000f00d0001")


@pytest.fixture
def three(queue):
    for one in (ONE, TWO, THREE):
        queue.create(id=one)
    return queue


def resolve(queue, ref):
    return queue.value("select persona.resolve_job(%s)", ref)


@pytest.mark.parametrize(
    "ref",
    [
        str(THREE), str(THREE).upper(), THREE.hex, f"  {THREE} ", "f00d0001", "F00D0001", "f00d",
        "f", "01911", "01911111-0000", "01911111-0000-7000-8000-0000f00d000",
    ],
)  # fmt: skip
def test_a_job_is_found(three, ref):
    assert resolve(three, ref) == THREE


def test_an_ambiguous_beginning_lists_the_candidates(three):
    with refused("PJ300", "0000abc. fits 2 jobs") as told:
        resolve(three, "0000abc")

    assert set(told.detail["candidates"]) == {str(ONE), str(TWO)}
    with refused("PJ300", "fits 3 jobs"):
        resolve(three, "019")


def test_many_candidates_are_cut(queue):
    for n in range(8):
        queue.create(id=uuid.UUID(int=0xABCDE << 60 | n))

    with refused("PJ300", "more than 5") as told:
        resolve(queue, "0000000")

    assert len(told.detail["candidates"]) == 5


@pytest.mark.parametrize(
    "ref", ["", " ", None, "xyz", "f00d000g", "%", "_", "-", "deadbeef", str(uuid.UUID(int=1)),
            "0" * 33, "'; drop table persona.jobs; --", "a" * 10_000],
)  # fmt: skip
def test_everything_else_is_not_found(three, ref):
    with refused("PJ404", "no job") as told:
        resolve(three, ref)

    assert len(told.message) < 200


@pytest.mark.parametrize(
    "function",
    ["get_job", "cancel_job", "retry_job", "hold_job", "release_job", "explain_job", "get_logs",
     "tail_logs"],
)  # fmt: skip
def test_every_function_for_people_takes_a_short_id(three, function):
    with refused("PJ404"):
        three.call(function, ref="deadbeef")
    with refused("PJ300"):
        three.call(function, ref="0000abc")
    if function in ("get_job", "cancel_job", "hold_job"):
        assert three.one(function, ref="f00d")["id"] == THREE
