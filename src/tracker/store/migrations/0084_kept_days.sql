-- From which day (UTC) on the rows of clicks are kept. Their partitions from before are dropped, oldest first, and the
-- counts stay. `held_*`: the day that could not be dropped, why, since when, and when to look again.
CREATE TABLE kept_days (
    is_only     boolean PRIMARY KEY DEFAULT true CHECK (is_only),
    first_day   date,  -- null: all days are kept
    held_day    date,
    held_why    text NOT NULL DEFAULT '',
    held_since  timestamptz,
    held_until  timestamptz,
    is_wrong    boolean NOT NULL DEFAULT false  -- its counts differ from its clicks
);
INSERT INTO kept_days DEFAULT VALUES;

CREATE TABLE dropped_partition (
    name        text        PRIMARY KEY,
    first_day   date        NOT NULL,
    days        integer     NOT NULL,
    clicks      bigint      NOT NULL,  -- by their counts
    bytes       bigint      NOT NULL,  -- with indexes
    dropped_at  timestamptz NOT NULL DEFAULT clock_timestamp()
);
