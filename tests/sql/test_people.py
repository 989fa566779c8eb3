"""People in the loop: questions and answers, approval, and resuming conversations."""

from __future__ import annotations

import pytest
from sqltest import refused


@pytest.fixture
def ask(queue, runner):
    def make(run, text="Which one?"):
        return queue.value(
            "select persona.job_call(%s, %s, %s, 'ask', %s)",
            runner, run["id"], run["lease"], {"text": text},
        )["data"]  # fmt: skip

    return make


@pytest.fixture
def held(queue, runner, ask):
    """A job that has asked and was stopped."""

    def make(**options):
        run = queue.start(runner, **options)
        assert ask(run) == {"asked": True}
        assert queue.beat(runner, run) == ["cancel"]
        queue.report(runner, run, "cancelled", session_id="s1", exit_code=143)
        return run

    return make


def test_a_question_holds_the_job_costs_no_attempt_and_gives_the_slot_back(queue, runner, held):
    run = held()

    row = queue.job(run)
    assert (row["status"], row["status_reason"]) == ("held", "question: Which one?")
    assert (row["attempt"], row["error"], row["failure_kind"]) == (0, None, None)
    [attempt] = queue.attempts(run)
    assert (attempt["outcome"], attempt["is_counted"]) == ("held", False)
    [question] = queue.rows("select * from persona.open_questions")
    assert (question["kind"], question["text"]) == ("question", "Which one?")
    assert queue.explain(run).startswith("waits for an answer: Which one?; persona answer ")


def test_an_answer_records_who_and_when_and_makes_it_pending(queue, runner, held):
    run = held()

    answered = queue.act("answer_job", run, answer="the red one")

    assert (answered["status"], answered["session_id"]) == ("pending", "s1")
    [given] = answered["payload"]["answers"]
    assert (given["question"], given["answer"]) == ("Which one?", "the red one")
    [kept] = queue.rows("select * from persona.questions")
    assert (kept["answer"], kept["answered_by"]) == ("the red one", given["answeredBy"])
    assert kept["answered_at"] is not None
    assert queue.rows("select * from persona.open_questions") == []
    assert queue.claim(runner)[0]["id"] == run["id"]


def test_only_a_held_job_that_asked_is_answered_and_it_is_not_just_released(
    queue, runner, ask, held
):
    with refused("PJ423", "has not asked"):
        queue.act("answer_job", queue.create(run_at="2099-01-01"), answer="x")
    run = held()
    with refused("PJ423", "waits for an answer: Which one") as told:
        queue.act("release_job", run)
    assert "persona answer" in told.hint
    with refused("PJ422", "1 to 1000000"):
        queue.act("answer_job", run, answer=" ")
    queue.act("answer_job", run, answer="x")
    with refused("PJ423", "has not asked"):
        queue.act("answer_job", run, answer="y")
    [again] = queue.claim(runner)
    ask(again, "And now?")
    with refused("PJ423", "is running now"):
        queue.act("answer_job", run, answer="y")


def test_a_question_repeated_after_a_lost_answer_is_one(queue, runner, ask):
    run = queue.start(runner)
    ask(run)
    ask(run)

    assert queue.value("select count(*) from persona.questions") == 1


def test_a_program_without_conversation_is_given_its_answer_the_second_time(
    queue, runner, ask, held
):
    run = held()
    queue.act("answer_job", run, answer="the red one")
    [again] = queue.claim(runner)

    assert ask(again) == {"answer": "the red one"}
    assert ask(again, "Another?") == {"asked": True}


def test_within_a_conversation_the_same_question_is_asked_again(queue, runner, ask, held):
    queue.agent(keeps_conversation=True)
    run = held()
    queue.act("answer_job", run, answer="the red one")
    [again] = queue.claim(runner)

    assert ask(again) == {"asked": True}


def test_a_conversation_is_resumed_with_the_answer_on_its_machine_only(
    queue, runner, held, connect
):
    queue.agent(keeps_conversation=True)
    queue.call(
        "update_agent", name="a", changes={"resume_argv": ["claude", "--resume", "{session_id}"]}
    )
    there = queue.runner("there", machine_id="m2")
    run = held()
    queue.act("answer_job", run, answer="the red one")

    def resume(on):
        [again] = queue.claim(on)
        found = queue.value(
            "select persona.job_call(%s, %s, %s, 'resume')", on, again["id"], again["lease"]
        )["data"]
        queue.report(on, again, "given_back", session_id="s1")
        return found

    assert resume(runner) == {
        "argv": ["claude", "--resume", "{session_id}"],
        "prompt": "the red one",
        "preface": "Your last run ended early (held). Go on where it stopped and finish the task:\n\n",
    }
    later = resume(there)
    assert (later["argv"], later["prompt"]) == (None, None)
    assert "given back" in later["preface"] or "given_back" in later["preface"]


@pytest.mark.parametrize("where", ["agent", "type"])
def test_what_needs_approval_is_held_until_a_person_releases_it(queue, runner, where):
    if where == "agent":
        queue.call("update_agent", name="a", changes={"requires_approval": True})
    else:
        queue.run("insert into persona.job_types (name, requires_approval) values ('t', true)")
    one = queue.create()
    [other] = queue.rows("select id from persona.create_jobs(%s) as id",
                         [{"job_type": "t", "agent": "a"}])  # fmt: skip

    assert queue.claim(runner, 5) == []
    assert (one["status"], one["status_reason"]) == ("held", "needs approval")
    assert queue.status(other) == "held"
    assert queue.explain(one).startswith("needs approval; persona release ")
    queue.act("release_job", one)
    assert [run["id"] for run in queue.claim(runner, 5)] == [one["id"]]
    [kept] = queue.rows("select * from persona.questions where job_id = %s", one["id"])
    assert (kept["kind"], kept["answer"]) == ("approval", "approved")
    assert kept["answered_by"] is not None


def test_approval_comes_after_the_needs_and_a_change_of_agent_is_no_way_around(queue, runner):
    queue.agent("risky")
    queue.call("update_agent", name="risky", changes={"requires_approval": True})
    needed = queue.start(runner)
    waiting = queue.create(agent="risky", depends_on=[needed["id"]])
    moved = queue.create(run_at="2099-01-01")
    assert queue.status(waiting) == "blocked"

    queue.report(runner, needed)
    queue.call("update_job", ref=str(moved["id"]), expected_updated_at=moved["updated_at"],
               changes={"agent": "risky"})  # fmt: skip

    assert (queue.status(waiting), queue.status(moved)) == ("held", "held")
    assert queue.value("select count(*) from persona.open_questions") == 2


def test_rpc_lists_and_answers(queue, held):
    run = held()

    def rpc(command, body=None):
        return queue.value("select persona.rpc(%s, %s)", command, body or {"": 0})["data"]

    listed = queue.value("select persona.rpc('questions')")["data"]["questions"]
    assert [(q["id"], q["text"]) for q in listed] == [(str(run["id"]), "Which one?")]
    assert rpc("answer", {"id": str(run["id"]), "text": "blue"})["status"] == "pending"


def test_another_command_line_does_not_resume_with_the_old_one(queue):
    def resumes(**changes):
        row = queue.one("update_agent", name="researcher", changes=changes)
        return row["resume_argv"]

    assert resumes(model="x") is not None
    assert resumes(argv=["x"], resume_argv=["x", "-r"]) == ["x", "-r"]
    assert resumes(argv=["y"]) is None


def test_the_agents_of_the_seed_resume_their_conversations(queue):
    rows = queue.rows("select * from persona.agents where keeps_conversation")

    assert {row["name"] for row in rows} >= {"researcher", "gemini-researcher"}
    for row in rows:
        flag = "-r" if row["argv"][0] == "gemini" else "--resume"
        at = row["resume_argv"].index(flag)
        assert row["resume_argv"][at + 1] == "{session_id}"
        assert ("{new_session_id}" in row["argv"]) == (row["argv"][0] == "claude")
