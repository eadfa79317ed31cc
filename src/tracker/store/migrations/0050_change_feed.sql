-- The change feed of conversions: in the order of versions, which grow with every change.
CREATE SEQUENCE conversion_version;
ALTER TABLE conversion ADD version bigint NOT NULL DEFAULT nextval('conversion_version');
CREATE UNIQUE INDEX conversion_changed ON conversion (version);

CREATE FUNCTION raise_conversion_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := nextval('conversion_version');
    RETURN NEW;
END $$;
CREATE TRIGGER raise_version BEFORE UPDATE ON conversion
    FOR EACH ROW EXECUTE FUNCTION raise_conversion_version();

-- Transactions take versions and commit in another order. So each announces, once and before its first version, that it
-- may still commit versions above the last one that was given. Readers stop there (store/feeds.py). The arguments are
-- the sequence, and the namespace of the locks.
CREATE FUNCTION announce_versions() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    announced CONSTANT text := 'tracker.' || TG_ARGV[0];  -- ends with the transaction, as the lock does
    given     bigint;
BEGIN
    IF coalesce(current_setting(announced, true), '') = '' THEN
        given := coalesce(pg_sequence_last_value(TG_ARGV[0]::regclass), 0);
        PERFORM pg_advisory_xact_lock_shared(TG_ARGV[1]::bigint << 48 | given), set_config(announced, 'true', true);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER announce BEFORE INSERT OR UPDATE ON conversion
    FOR EACH STATEMENT EXECUTE FUNCTION announce_versions('conversion_version', '31773');

-- The change feed of the catalogue: rows in the order of versions, and in their place those that were deleted.
CREATE TABLE catalogue_deletion (
    version   bigint PRIMARY KEY DEFAULT nextval('catalogue_version'),
    resource  text   NOT NULL,  -- the table
    place     jsonb  NOT NULL   -- the columns that named the row
);

CREATE FUNCTION note_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO catalogue_deletion (resource, place)
    SELECT TG_TABLE_NAME, coalesce(jsonb_object_agg(key, value), '{}')
    FROM jsonb_each(to_jsonb(OLD)) WHERE key = ANY (TG_ARGV);
    RETURN NULL;
END $$;

-- Makes a table of the catalogue a part of the feed. `place`: the columns that name a row.
CREATE FUNCTION follow_changes(followed regclass, place text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    names text := coalesce((SELECT string_agg(quote_literal(name), ', ') FROM unnest(place) AS name), '');
BEGIN
    EXECUTE format('CREATE INDEX ON %s (version)', followed);
    EXECUTE format(
        'CREATE TRIGGER announce BEFORE INSERT OR UPDATE OR DELETE ON %s
            FOR EACH STATEMENT EXECUTE FUNCTION announce_versions(''catalogue_version'', ''31774'')', followed);
    EXECUTE format(
        'CREATE TRIGGER note_deletion AFTER DELETE ON %s FOR EACH ROW EXECUTE FUNCTION note_deletion(%s)',
        followed, names);
END $$;

SELECT follow_changes(followed::regclass, place::text[])
FROM (VALUES
    ('advertiser', '{id}'), ('advertiser_secret', '{advertiser_id,id}'), ('status_word', '{id}'),
    ('affiliate', '{id}'), ('affiliate_postback', '{affiliate_id,id}'), ('offer', '{id}'),
    ('offer_url', '{offer_id,id}'), ('offer_affiliate', '{offer_id,affiliate_id}'),
    ('offer_free_value', '{offer_id,id}'), ('cap', '{offer_id,id}'), ('goal', '{offer_id,id}'),
    ('goal_terms', '{goal_id,id}'), ('block', '{id}'), ('bot_rule', '{id}'), ('deployment', '{}'),
    ('tracking_host', '{host}'), ('link_form', '{id}')
) AS part (followed, place);
