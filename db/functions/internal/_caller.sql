-- Who is calling. Inside a security definer function current_user is the definer; the role setting and the
-- session user are the caller's, and a caller can set the role only to one it is a member of.
create or replace function persona._caller() returns text
language sql stable
return coalesce(nullif(current_setting('role'), 'none'), session_user::text);
comment on function persona._caller() is 'Internal. Name of the calling role.';
