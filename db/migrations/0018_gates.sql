-- 0018, expand: what each kind of failure leads to, and gates that close by themselves.
-- Online: a new table, and a column with a constant default.
create table persona.failure_policies (
  kind text primary key,
  action text not null constraint failure_policies_action_known check (action in ('retry', 'wait', 'hold', 'fail')),
  gate text not null default 'open'
    constraint failure_policies_gate_known check (gate in ('open', 'until_reset', 'until_opened')),
  wait interval constraint failure_policies_wait_positive check (wait > interval '0'),
  description text not null default ''
);
comment on table persona.failure_policies is 'What a kind of failure leads to. A kind that is not listed is retried.';
comment on column persona.failure_policies.kind is 'jobs.failure_kind.';
comment on column persona.failure_policies.action is
  'retry: another attempt with backoff while some are left, else failed; wait: once more after the reset, costs no attempt; hold: a person decides, costs no attempt; fail: failed at once.';
comment on column persona.failure_policies.gate is
  'Whether it closes the gate of the agent''s provider for all runners: open (no), until_reset, or until_opened by a person.';
comment on column persona.failure_policies.wait is
  'How long to wait where the report names no reset; null: the setting rate_limit_wait_seconds.';
comment on column persona.failure_policies.description is 'What it means, in a sentence.';

insert into persona.failure_policies (kind, action, gate, wait, description) values
  ('rate_limited', 'wait', 'until_reset', null, 'The provider refuses until a time.'),
  ('overloaded', 'retry', 'until_reset', '30 s', 'The provider has too much to do, or failed itself.'),
  ('auth', 'fail', 'until_opened', null, 'The provider does not accept the credentials.'),
  ('billing', 'fail', 'until_opened', null, 'The provider wants to be paid first.'),
  ('max_turns', 'hold', 'open', null, 'The program used up its turns before it was done.'),
  ('budget', 'hold', 'open', null, 'The program used up the money it was given.'),
  ('bad_output', 'retry', 'open', null, 'The program ended without an answer that could be read.'),
  ('tool_error', 'retry', 'open', null, 'A tool of the program failed.'),
  ('crashed', 'retry', 'open', null, 'The program ended by a signal, or without its last word.'),
  ('timeout', 'retry', 'open', null, 'It took longer than it may.'),
  ('idle_timeout', 'retry', 'open', null, 'It was silent for longer than it may.'),
  ('not_found', 'fail', 'open', null, 'The program or its folder does not exist where the runner is.'),
  ('unknown', 'retry', 'open', null, 'It ended with an exit code other than 0 and said no more.');

alter table persona.agents add column account text not null default '';
comment on column persona.agents.account is 'Account at the provider; a gate closes for the agents of one account. Empty: the provider''s gate is everybody''s.';
