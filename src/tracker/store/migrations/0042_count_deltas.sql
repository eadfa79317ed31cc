-- What writers have added to the counts, and what is not in click_count, click_minute and report_count yet. Writers
-- only insert, so none waits for another. A worker adds the rows up once a second, and deletes them.
--
-- A row is of one batch. Its arrays have an element a count: few rows live shortly, and a reader unpacks only the
-- dimension that it needs. Days are not stored: they are sums of quarter-hours.
CREATE TABLE quarter_delta (
    dimension  text      NOT NULL,              -- all, or a dimension of report_count
    keys       text[]    NOT NULL COLLATE "C",  -- as in report_count
    slots      integer[] NOT NULL,
    stored     integer[] NOT NULL,              -- clicks, with the tests. Below 0 if they were taken back
    gross      integer[] NOT NULL,              -- as in report_count, with the next two
    clicks     integer[] NOT NULL,
    uniques    integer[] NOT NULL,
    made_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000,
        toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 1000);

CREATE TABLE minute_delta (
    minutes   bigint[]  NOT NULL,
    stored    integer[] NOT NULL,
    imported  integer[] NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

-- Compression would cost more than it saves: the rows live for a second.
ALTER TABLE quarter_delta ALTER keys SET STORAGE EXTERNAL, ALTER slots SET STORAGE EXTERNAL,
    ALTER stored SET STORAGE EXTERNAL, ALTER gross SET STORAGE EXTERNAL, ALTER clicks SET STORAGE EXTERNAL,
    ALTER uniques SET STORAGE EXTERNAL;

-- The counts for readers: rows of one key must be added up.
CREATE VIEW click_count_part AS
SELECT dimension, key, slot, clicks FROM click_count
UNION ALL
SELECT dimension, CASE dimension WHEN 'all' THEN 0 ELSE each.key::bigint END, each.slot, each.clicks::bigint
FROM quarter_delta CROSS JOIN LATERAL unnest(keys, slots, stored) AS each (key, slot, clicks)
WHERE dimension IN ('all', 'offer', 'affiliate')
UNION ALL
SELECT dimension || '_day', CASE dimension WHEN 'all' THEN 0 ELSE each.key::bigint END, each.slot / 96 * 96,
       each.clicks::bigint
FROM quarter_delta CROSS JOIN LATERAL unnest(keys, slots, stored) AS each (key, slot, clicks)
WHERE dimension IN ('all', 'offer', 'affiliate');

CREATE VIEW click_minute_part AS
SELECT minute, stored, imported FROM click_minute
UNION ALL
SELECT each.minute, each.stored::bigint, each.imported::bigint
FROM minute_delta CROSS JOIN LATERAL unnest(minutes, stored, imported) AS each (minute, stored, imported);

CREATE VIEW report_count_part AS
SELECT quarters, dimension, key, slot, gross, clicks, uniques FROM report_count
UNION ALL
SELECT 1::smallint, dimension, each.key, each.slot, each.gross::bigint, each.clicks::bigint, each.uniques::bigint
FROM quarter_delta
CROSS JOIN LATERAL unnest(keys, slots, gross, clicks, uniques) AS each (key, slot, gross, clicks, uniques)
WHERE each.gross <> 0
UNION ALL
SELECT 96::smallint, dimension, each.key, each.slot / 96 * 96, each.gross::bigint, each.clicks::bigint,
       each.uniques::bigint
FROM quarter_delta
CROSS JOIN LATERAL unnest(keys, slots, gross, clicks, uniques) AS each (key, slot, gross, clicks, uniques)
WHERE each.gross <> 0;
