-- ssh gives what follows the host to a shell on the other side, in one line: what a creator of jobs filled in there
-- would be read as a command. persona-ssh quotes each argument, so that it is none of these.
create or replace function persona._check_launcher(p_launcher text[], p_argv text[], p_admin_only boolean) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if not coalesce(p_admin_only, false)
     and exists (select from unnest(p_launcher) as l (word) where l.word ~ '(^|/)(ssh|slogin|rsh|plink)$')
     and array_to_string(p_argv, ' ') ~ '\{(payload|prompt|business|job_type|session_id)'
  then
    perform persona._invalid('launcher', array_to_string(p_launcher, ' '),
      'a shell on the other side would read what the job says in the arguments; use persona-ssh instead, leave the text to stdin, or make the agent admin_only');
  end if;
end $$;
comment on function persona._check_launcher(text[], text[], boolean) is
  'Internal. Refuses a launcher that would let the creator of a job choose the program. PJ422.';
