-- Tokens that are changed, rotated and revoked; and those of one affiliate or advertiser.
ALTER TABLE token
    ADD hint            text NOT NULL DEFAULT '',  -- how it begins: enough to tell it from others
    ADD affiliate_id    bigint REFERENCES affiliate,
    ADD advertiser_id   bigint REFERENCES advertiser,
    ADD rate_limit      text,                      -- as 600/minute; NULL = the deployment's
    ADD previous_hash   bytea UNIQUE,              -- of the secret before the last rotation
    ADD previous_until  timestamptz,               -- when that one ends
    ADD revoked_at      timestamptz,
    ADD is_revoked      boolean GENERATED ALWAYS AS (revoked_at IS NOT NULL) STORED,
    ADD version         bigint NOT NULL DEFAULT nextval('catalogue_version'),
    ADD CHECK (num_nonnulls(affiliate_id, advertiser_id) <= 1),
    ADD CHECK ((previous_hash IS NULL) = (previous_until IS NULL));

-- Being used is no change.
CREATE TRIGGER raise_version
    BEFORE UPDATE OF name, expires_at, rate_limit, secret_hash, revoked_at ON token
    FOR EACH ROW EXECUTE FUNCTION raise_version();
