// The plugin at work beside a runner: it starts 20 jobs itself, queues 20 for the runner, and its
// consumer dispatches everything pending that has an agent. Prints what it ran, a line an execution.
"use strict";
const { Plugin } = require("./plugin.js");

const [pythonPath, root, env] = process.argv.slice(2);
const plugin = new Plugin(pythonPath, root, JSON.parse(env));
const json = JSON.stringify;
const busy = new Set(); // agents that the plugin is running
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

async function execute(job) {
  await plugin.call("update_job_status", job.shortId, json({ status: "running" }));
  console.log(job.id);
  await plugin.call("heartbeat", job.shortId);
  await plugin.call("update_job_status", job.shortId, json({ status: "completed" }));
}

async function start(number) {
  const agent = `agent-${number}`;
  busy.add(agent);
  const request = { type: "agent_action", payload: { agent, action: "go" }, agent };
  await execute(await plugin.call("create_job", json(request)));
  busy.delete(agent);
}

async function consume(until) {
  while (!until.done) {
    for (const job of (await plugin.call("get_pending_jobs", "")).jobs) {
      if (!job.assignedTo || busy.has(job.assignedTo)) continue;
      busy.add(job.assignedTo);
      await execute(job);
      busy.delete(job.assignedTo);
    }
    await pause(100);
  }
}

async function main() {
  const until = { done: false };
  const consumer = consume(until);
  for (let number = 0; number < 20; number += 1) {
    await plugin.call("create_job", json({ type: "research", payload: { question: `q${number}` }, agent: "queued" }));
    await start(number);
  }
  for (let tries = 0; tries < 200; tries += 1) {
    const { pending, running } = await plugin.call("get_job_summary");
    if (pending + running === 0) break;
    await pause(100);
  }
  until.done = true;
  await consumer;
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
