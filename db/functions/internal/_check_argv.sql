-- Which program runs is said by an admin: what a creator of jobs may fill in is an argument of it, and no text that a
-- shell reads. Only where the creator has to be an admin as well may it be anything.
create or replace function persona._check_argv(p_argument text, p_argv text[], p_admin_only boolean) returns void
language plpgsql volatile
set search_path = pg_catalog, persona, pg_temp as $$
begin
  if coalesce(p_admin_only, false) then
    return;
  elsif p_argv[1] ~ '\{(payload|prompt|business|job_type|session_id)' then
    perform persona._invalid(p_argument, p_argv[1],
      'the program of an agent that is not for admins only (admin_only) cannot come from the job');
  elsif p_argv[1] ~ '(^|/)(ba|da|z|k|a|fi)?sh$' and exists (
    select from unnest(p_argv) with ordinality as a (word, n)
    where a.word ~ '^-[a-z]*c$' and p_argv[a.n + 1] ~ '\{(payload|prompt|business|job_type|session_id)')
  then
    perform persona._invalid(p_argument, array_to_string(p_argv, ' '),
      'a shell would run what the job says; give it as an argument after the script ("$1"), or make the agent admin_only');
  end if;
end $$;
comment on function persona._check_argv(text, text[], boolean) is
  'Internal. Refuses a command line that lets the creator of a job choose the program. PJ422.';
