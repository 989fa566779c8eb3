-- 0014, expand: register_agent takes resume_argv and requires_approval.
-- Online: its signature grows by defaulted arguments; a replaced function would be an overload.
drop function if exists persona.register_agent(
  text, text[], text, text, jsonb, text, text, interval, interval, interval, bigint, integer, integer, text, text, text,
  boolean, boolean, boolean, boolean, boolean, text[], text[]);
