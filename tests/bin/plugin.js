// What a window application does: one process a call, with the pythonPath of its settings, the path
// of a bridge.py that it never looks at, and a small environment. Passing errors are tried again.
"use strict";
const { spawn } = require("node:child_process");

const AGAIN = /network|connection|timeout|econnrefused|econnreset|rate limit|429|502|503/i;

class Plugin {
  constructor(pythonPath, personaRoot, env) {
    this.pythonPath = pythonPath;
    this.bridgePath = `${personaRoot}/python/persona/bridge.py`;
    this.options = { cwd: `${personaRoot}/python`, env };
    this.used = new Set();
    this.calls = 0;
  }

  once(command, args) {
    this.calls += 1;
    this.used.add(command);
    return new Promise((resolve, reject) => {
      const child = spawn(this.pythonPath, [this.bridgePath, command, ...args], this.options);
      let out = "";
      let err = "";
      child.stdout.on("data", (data) => (out += data));
      child.stderr.on("data", (data) => (err += data));
      child.on("error", reject);
      child.on("close", (code) => {
        if (code !== 0) {
          return reject(Object.assign(new Error(err || out || "(no output)"), { code, out }));
        }
        const answer = JSON.parse(out);
        return answer.error
          ? reject(Object.assign(new Error(answer.error), { code, answer }))
          : resolve(answer);
      });
    });
  }

  async call(command, ...args) {
    for (let attempt = 1; ; attempt += 1) {
      try {
        return await this.once(command, args);
      } catch (error) {
        if (attempt === 3 || !AGAIN.test(error.message)) throw error;
        await new Promise((done) => setTimeout(done, 20));
      }
    }
  }
}

module.exports = { Plugin, AGAIN };
