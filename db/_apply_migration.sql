-- Applies migrations/:migration once, or leaves it for later. Part of install.sql; never run alone.
select case
  when exists (select from persona.schema_migrations as m where m.name = :'migration') then false
  else persona._may_apply(:'migration')
end as is_new \gset
\if :is_new
  \ir migrations/:migration
  insert into persona.schema_migrations (name) values (:'migration');
\endif
