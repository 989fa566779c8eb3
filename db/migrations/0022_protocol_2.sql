-- 0022, expand: runners of protocol 2, which need what 0010 to 0021 brought. Those of protocol 1 are served as before.
-- Online: one row of settings.
update persona.settings set value = '2' where name = 'max_protocol' and value = '1';
