// The full exchange: every command of the bridge, in the order a day in the life has them.
"use strict";
const assert = require("node:assert/strict");
const { Plugin } = require("./plugin.js");

const [pythonPath, root, env] = process.argv.slice(2);
const plugin = new Plugin(pythonPath, root, JSON.parse(env));
const json = JSON.stringify;

async function fails(command, ...args) {
  const before = plugin.calls;
  const error = await plugin.call(command, ...args).then(() => assert.fail("succeeded"), (e) => e);
  return { error, tries: plugin.calls - before };
}

async function main() {
  assert.deepEqual(await plugin.call("get_job_summary"), {
    pending: 0, running: 0, completed: 0, failed: 0, cancelled: 0, hung: 0,
  });

  // The plugin makes a job and starts the program itself.
  const request = {
    type: "agent_action",
    payload: { agent: "cro", action: "it's a \"brief\" \\ $(id) `id` :'x' \u20ac \ud83d\ude00\n", timeout: 300 },
    agent: "cro",
    sourceFile: undefined,
    tags: ["agent", "legacy"],
  };
  const job = await plugin.call("create_job", json(request));
  assert.equal(job.status, "pending");
  assert.deepEqual(await plugin.call("create_job", json(request)), job);
  const [waiting] = (await plugin.call("get_pending_jobs", "")).jobs;
  assert.deepEqual(waiting.payload, request.payload);
  assert.equal(waiting.assignedTo, "cro");
  assert.ok(Date.now() - Date.parse(waiting.createdAt) < 60_000);

  assert.equal((await plugin.call("update_job_status", job.shortId, json({ status: "running" }))).success, true);
  assert.equal((await plugin.call("heartbeat", job.shortId)).success, true);
  const [running] = (await plugin.call("get_running_jobs", "cro")).jobs;
  assert.equal(running.shortId, job.shortId);
  assert.deepEqual((await plugin.call("get_hung_jobs", "5")).jobs, []);
  await plugin.call("log_job_event", job.shortId, "warning", "slow -- '; drop", json({ pid: 1 }));
  assert.equal((await plugin.call("log_batch", job.shortId, json(["a", "b \ud800"]), "info")).count, 2);
  const { logs } = await plugin.call("get_job_logs", job.shortId, "50");
  assert.deepEqual(logs.map((line) => [line.level, line.message]), [
    ["info", "b \ufffd"], ["info", "a"], ["warn", "slow -- '; drop"],
  ]);
  const today = new Date();
  const date = `${today.getFullYear()}-${String(today.getMonth() + 1).padStart(2, "0")}-${String(today.getDate()).padStart(2, "0")}`;
  const local = await plugin.call("get_local_logs", "work", "cro", date);
  assert.deepEqual([local.source, local.exists, local.logs.length], ["local", true, 3]);
  assert.equal((await plugin.call("update_job_status", job.shortId, json({ status: "completed" }))).status, "completed");
  assert.equal((await plugin.call("update_job_status", job.shortId, json({ status: "completed" }))).idempotent, true);
  const late = await fails("update_job_status", job.shortId, json({ status: "failed", error: "late" }));
  assert.deepEqual([late.error.code, late.error.answer.idempotent, late.tries], [0, true, 1]);
  const status = await plugin.call("get_job_status", job.shortId);
  assert.deepEqual([status.status, status.error], ["completed", null]);
  const [done] = (await plugin.call("get_completed_jobs", "20")).jobs;
  assert.ok(Date.parse(done.completedAt) >= Date.parse(done.startedAt));

  // A shell script that speaks in events.
  const script = await plugin.call("create_job", json({ type: "agent_action", payload: { action: "y" }, agent: "cto" }));
  const event = await plugin.call("publish_event", "job.started", script.shortId, "{}", "bash");
  assert.equal(event.trace_id, "run-7");
  await plugin.call("publish_event", "job.failed", script.shortId, json({ error: "no network", exit_code: 3 }), "bash");
  const { events, count } = await plugin.call("read_events", "10", "30");
  assert.deepEqual([count, events[0].message.type, events[0].read_ct], [2, "job.started", 1]);
  assert.equal((await plugin.call("delete_event", String(events[0].msg_id))).deleted, true);
  assert.equal((await plugin.call("get_events", script.shortId, "-", "10")).count, 2);
  const [failed] = (await plugin.call("get_failed_jobs", "20")).jobs;
  assert.deepEqual([failed.error, failed.exitCode], ["no network", 3]);

  const { metrics } = await plugin.call("get_agent_daily_performance", "", "7");
  assert.deepEqual(metrics.map((day) => [day.date, day.agent, day.jobsCompleted]), [[date, "cto", 1], [date, "cro", 1]]);
  await plugin.call("create_job", json({ type: "research", payload: { question: "?" }, agent: "researcher" }));
  assert.equal((await plugin.call("cancel_pending_jobs", "enough")).cancelled, 1);

  // Lasting errors are told once.
  for (const args of [["get_job_status", "4295020"], ["nonsense"], ["create_job", "{"], ["log_job_event", "x"]]) {
    const { error, tries } = await fails(...args);
    assert.deepEqual([error.code, tries], [1, 1], args[0]);
    assert.equal(Object.keys(JSON.parse(error.out)).join(), "error");
  }
  plugin.used.delete("nonsense");
  console.log(json([...plugin.used].sort()));
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
