-- What reports are added up from: clicks without the tests, per quarter-hour and per day (UTC) and one dimension,
-- counted in the transaction that stores them. Long reports read days, and quarter-hours at their ends.
CREATE TABLE report_count (
    quarters   smallint NOT NULL CHECK (quarters IN (1, 96)),  -- how many quarter-hours from slot on
    dimension  text     NOT NULL,
    key        text     NOT NULL COLLATE "C",  -- an id, a code, a name; '' = unknown, and for 'all'
    slot       integer  NOT NULL,
    gross      bigint   NOT NULL,
    clicks     bigint   NOT NULL,  -- accepted, of people
    uniques    bigint   NOT NULL,  -- of those clicks
    PRIMARY KEY (quarters, dimension, slot, key)
) WITH (fillfactor = 60);  -- the same few rows are updated again and again: within their page

CREATE INDEX report_count_key ON report_count (dimension, key, slot) WHERE quarters = 1;

WITH quarter AS (
    SELECT dimension, key, click_slot(hash) AS slot, count(*) AS gross,
           count(*) FILTER (WHERE status = 'accepted' AND NOT is_bot) AS clicks,
           count(*) FILTER (WHERE status = 'accepted' AND NOT is_bot AND is_unique) AS uniques
    FROM click CROSS JOIN LATERAL (VALUES
        ('all', ''), ('offer', offer_id::text), ('offer_url', coalesce(offer_url_id::text, '')),
        ('affiliate', affiliate_id::text), ('country', coalesce(country_code, '')), ('device_type', device_type),
        ('os', device_os), ('browser', browser), ('status', status), ('reason', reason::text)
    ) AS of (dimension, key)
    WHERE NOT is_test GROUP BY dimension, key, slot
)
INSERT INTO report_count (quarters, dimension, key, slot, gross, clicks, uniques)
SELECT 1, dimension, key, slot, gross, clicks, uniques FROM quarter
UNION ALL
SELECT 96, dimension, key, slot / 96 * 96, sum(gross), sum(clicks), sum(uniques)
FROM quarter GROUP BY dimension, key, slot / 96;
