-- Clicks created through the API: what makes one that is asked for again the same click. The rows are
-- committed before the click goes to the stream and stay for good, so that a repeated request finds its hash.

-- Clicks that were given a key of their own: 'd' and the client's dedupe_key, or 'l' and the legacy id.
CREATE TABLE created_click (
    token_id  bigint NOT NULL,
    key       text   NOT NULL,
    digest    bytea  NOT NULL,  -- SHA-256 of what was asked for under it
    hash      uuid   NOT NULL,
    PRIMARY KEY (token_id, key)
);

-- Requests with an Idempotency-Key: their clicks in order, and which of them were there before.
CREATE TABLE create_request (
    token_id    bigint    NOT NULL,
    key         text      NOT NULL,
    digest      bytea     NOT NULL,
    hashes      uuid[]    NOT NULL,
    duplicates  boolean[] NOT NULL,
    PRIMARY KEY (token_id, key)
);

-- Ids of an earlier tracker's clicks, which late postbacks still bring.
CREATE TABLE legacy_click (
    legacy_id  text PRIMARY KEY,
    hash       uuid NOT NULL
);
