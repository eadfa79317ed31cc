-- Clicks of an affiliate by its sub ids, per hour and per day (UTC), without the tests. A worker makes these pieces from
-- clicks of finished hours, beside the writers. Reports read them where they are still true, and clicks elsewhere.
CREATE TABLE sub_id_piece (
    affiliate_id  bigint      NOT NULL,
    hours         smallint    NOT NULL CHECK (hours IN (1, 24)),
    slot          integer     NOT NULL,  -- its first quarter-hour
    counted       bigint      NOT NULL,  -- gross of report_count when the piece was made. It is true while that is the same
    gross         bigint      NOT NULL,  -- as in report_count, with the next two
    clicks        bigint      NOT NULL,
    uniques       bigint      NOT NULL,
    made_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (affiliate_id, hours, slot)
);

-- The values of a field in a piece. A field that is blank in all clicks has no row. The arrays have an element a value,
-- and one with a null key for all values that are not kept.
CREATE TABLE sub_id_count (
    affiliate_id  bigint    NOT NULL,
    hours         smallint  NOT NULL,
    slot          integer   NOT NULL,
    field         text      NOT NULL,
    keys          text[]    NOT NULL COLLATE "C",
    gross         integer[] NOT NULL,
    clicks        integer[] NOT NULL,
    uniques       integer[] NOT NULL,
    PRIMARY KEY (affiliate_id, hours, slot, field),
    FOREIGN KEY (affiliate_id, hours, slot) REFERENCES sub_id_piece ON DELETE CASCADE
);

-- Quarter-hours in which stored clicks were deleted or changed. Pieces with them are not true any more. New clicks need
-- no row, because report_count grows.
CREATE TABLE sub_id_change (
    affiliate_id  bigint  NOT NULL,
    slot          integer NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);

CREATE FUNCTION note_changed_clicks() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO sub_id_change SELECT DISTINCT affiliate_id, click_slot(hash) FROM old_rows;
    IF TG_OP = 'UPDATE' THEN
        INSERT INTO sub_id_change SELECT DISTINCT affiliate_id, click_slot(hash) FROM new_rows;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER note_updated AFTER UPDATE ON click REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_changed_clicks();
CREATE TRIGGER note_deleted AFTER DELETE ON click REFERENCING OLD TABLE AS old_rows
    FOR EACH STATEMENT EXECUTE FUNCTION note_changed_clicks();

-- When a worker last found that no piece of the last two days is missing.
CREATE TABLE sub_id_round (
    ended_at  timestamptz NOT NULL
);
INSERT INTO sub_id_round VALUES (now());
