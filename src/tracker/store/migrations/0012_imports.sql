-- What was imported: how far each import is, and clicks that never came over the stream.

-- Of `stored`, those that an import stored: no stream has counted them, so the ledger leaves them out.
ALTER TABLE click_minute ADD imported bigint NOT NULL DEFAULT 0;

-- Rows of a file are committed together with how many of them are done: a killed import goes on from there.
CREATE TABLE import_run (
    digest       bytea PRIMARY KEY,     -- SHA-256 of the file, and of how it is read
    kind         text        NOT NULL,
    source       text        NOT NULL,  -- the earlier tracker, by the operator's name for it
    file         text        NOT NULL,
    rows         bigint      NOT NULL DEFAULT 0,  -- of the file, that are done
    stored       bigint      NOT NULL DEFAULT 0,
    present      bigint      NOT NULL DEFAULT 0,  -- were there already
    refused      bigint      NOT NULL DEFAULT 0,
    started_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
