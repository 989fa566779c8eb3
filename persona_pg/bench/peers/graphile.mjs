// graphile-worker with its local queue of 500 and batched completion, the fastest it offers: bulk
// add, drain of no-op jobs, latency, `true` as a subprocess. Run by node: DSN TASK ARGUMENTS.
import { spawn } from "node:child_process";
import { makeWorkerUtils, run, runMigrations } from "graphile-worker";

const BATCH = 1000;
const payload = { body: "x".repeat(200) };
const [task, options] = [process.argv[3], JSON.parse(process.argv[4])];

const { Logger } = await import("graphile-worker");
const logger = new Logger(() => (level, message) => level === "error" && console.error(message));
const pool = new (await import("pg")).default.Pool({ max: 10 });
const now = () => performance.now();


async function fill(jobs) {
  const utils = await makeWorkerUtils({ pgPool: pool, logger });
  const calls = Math.max(1, Math.floor(jobs / BATCH));
  const began = now();
  for (let i = 0; i < calls; i++) {
    await utils.addJobs(Array.from({ length: BATCH }, () => ({ identifier: "bench", payload })));
  }
  const rate = (calls * BATCH) / ((now() - began) / 1000);
  await utils.release();
  return [rate, calls * BATCH];
}

const worker = (handler, concurrency, batched = true) => run({
  pgPool: pool, logger, noHandleSignals: true, taskList: { bench: handler },
  preset: { worker: {
    concurrentJobs: concurrency, maxPoolSize: 10,
    ...(batched ? { localQueue: { size: 500 }, completeJobBatchDelay: 0, failJobBatchDelay: 0 } : {}),
  } },
});

async function drain(jobs, workers, concurrency, work) {
  const [, total] = await fill(jobs);
  await pool.query("vacuum analyze");
  let done = 0;
  let finish;
  const all = new Promise((resolve) => { finish = resolve; });
  const handler = async () => {
    await work();
    if (++done === total) finish();
  };
  const began = now();
  const runners = await Promise.all(Array.from({ length: workers }, () => worker(handler, concurrency)));
  await all;
  const rate = total / ((now() - began) / 1000);
  await Promise.all(runners.map((runner) => runner.stop()));
  return rate;
}

async function latency(jobs) {
  const utils = await makeWorkerUtils({ pgPool: pool, logger });
  let tell;
  const runner = await worker(() => { tell(now()); }, 3, false);
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const times = [];
  for (let i = 0; i < jobs; i++) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    const begun = new Promise((resolve) => { tell = resolve; });
    const began = now();
    await utils.addJob("bench", payload);
    times.push((await begun) - began);
  }
  await runner.stop();
  times.sort((a, b) => a - b);
  return { p50: times[times.length >> 1], p99: times[Math.floor(times.length * 0.99)] };
}

const nothing = async () => {};
const runTrue = () => new Promise((resolve) => spawn("true", { stdio: "ignore" }).on("exit", resolve));

await runMigrations({ pgPool: pool, logger });
let answer;
if (task === "bulk") answer = { rate: (await fill(options.jobs))[0] };
else if (task === "drain") answer = { rate: await drain(options.jobs, options.workers, 24, nothing) };
else if (task === "true") answer = { rate: await drain(options.jobs, 1, options.concurrency, runTrue) };
else answer = await latency(options.jobs);
console.log(JSON.stringify(answer));
process.exit(0);
