create or replace function persona.remove_budget(name text) returns persona.budgets
language plpgsql volatile security definer
set search_path = pg_catalog, persona, pg_temp as $$
declare
  v_budget persona.budgets;
begin
  delete from persona.budgets as b where b.name = remove_budget.name returning * into v_budget;
  if not found then
    perform persona._invalid('name', remove_budget.name, coalesce('there are: '
      || (select string_agg(b.name, ', ' order by b.name) from persona.budgets as b), 'no budget is set'));
  end if;
  perform persona._reopen_budgets();
  perform persona._wake('*');
  return v_budget;
end $$;
comment on function persona.remove_budget(text) is
  'Admin API. Takes a budget away and lets go what was held for it. What was spent stays in the ledger. PJ422.';
