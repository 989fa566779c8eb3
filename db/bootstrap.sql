-- What every install needs before the first migration: the schema and the list of what has run.
create schema if not exists persona;
comment on schema persona is
  'Persona PG: a durable queue for AI-agent and command runs. Start reading at the view job_dashboard and \df+ persona.*';

create table if not exists persona.schema_migrations (
  name text primary key,
  checksum text,
  applied_at timestamptz not null default now()
);
comment on table persona.schema_migrations is 'One row a migration that has run; see db/migrations.';
comment on column persona.schema_migrations.name is 'File name in db/migrations, such as 0001_settings.sql.';
comment on column persona.schema_migrations.checksum is
  'SHA-256 of the file in hex; null where psql applied it (psql cannot hash), filled in by the next persona db migrate.';
comment on column persona.schema_migrations.applied_at is 'Start of the transaction that applied it.';
