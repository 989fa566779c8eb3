-- Applies migrations/:migration once. Part of install.sql; never run alone.
select not exists (
  select from persona.schema_migrations as m where m.name = :'migration'
) as is_new \gset
\if :is_new
  \ir migrations/:migration
  insert into persona.schema_migrations (name) values (:'migration');
\endif
