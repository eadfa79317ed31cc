-- The ledger's share of Postgres: what was stored, counted in the transaction that stores it.

-- A hash's Unix millisecond.
CREATE FUNCTION click_millis(hash uuid) RETURNS bigint LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT ('x0000' || left(replace(hash::text, '-', ''), 12))::bit(64)::bigint
$$;

-- Rows really inserted, by the minute of their hash (Unix minutes).
CREATE TABLE click_minute (
    minute  bigint PRIMARY KEY,
    stored  bigint NOT NULL
);

INSERT INTO click_minute (minute, stored)
SELECT click_millis(hash) / 60000, count(*) FROM click GROUP BY 1;

-- Stream ids (milliseconds << 20 | sequence) of the entries whose rows each writer's last transaction inserted.
-- One of them that is delivered again was stored by it: only its acknowledgement was lost.
CREATE TABLE writer_batch (
    partition  smallint NOT NULL,
    slot       integer  NOT NULL,
    entries    bigint[] NOT NULL,
    PRIMARY KEY (partition, slot)
);
