-- The ledger's share of Postgres: what was stored, counted in the transaction that stores it.

-- Rows really inserted, by the minute of their hash (Unix minutes).
CREATE TABLE click_minute (
    minute  integer PRIMARY KEY,
    stored  bigint  NOT NULL
);

-- Stream ids (milliseconds << 20 | sequence) of the entries of each writer's last committed transaction.
CREATE TABLE writer_batch (
    partition  smallint NOT NULL,
    slot       integer  NOT NULL,
    entries    bigint[] NOT NULL,
    PRIMARY KEY (partition, slot)
);
