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
    given bigint;
BEGIN
    IF coalesce(current_setting(announced, true), '') = '' THEN
        EXECUTE format('SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM %I', TG_ARGV[0]) INTO given;
        PERFORM pg_advisory_xact_lock_shared(TG_ARGV[1]::bigint << 48 | given);
        PERFORM set_config(announced, 'true', true);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER announce BEFORE INSERT OR UPDATE ON conversion
    FOR EACH STATEMENT EXECUTE FUNCTION announce_versions('conversion_version', '31773');
