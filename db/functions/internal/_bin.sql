-- Each is a tenth wider than the one before: a percentile read from them is off by less than that.
create or replace function persona._bin(p_seconds double precision) returns smallint
language sql immutable
return floor(ln(least(greatest(p_seconds, 0.001), 1e9)) / ln(1.1))::smallint;
comment on function persona._bin(double precision) is
  'Internal. In which bin of activity_times so many seconds are: from 1.1 to its power, until a tenth more.';
