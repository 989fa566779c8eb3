-- 0026: a payload has a size at most; whoever claims a job holds it in memory, and so does every reader of its row.
-- Online: one row is added.
insert into persona.settings (name, value, description) values
  ('max_payload_bytes', '33554432', 'A new payload has at most so many bytes; fewer than 65536 count as that.');
