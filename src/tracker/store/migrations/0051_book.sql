-- The book of money: entries have an author and a reason, and nothing in the book is changed or deleted.

ALTER TABLE conversion_entry
    ADD author  text NOT NULL DEFAULT '',  -- name of the token. '' for an advertiser's postback, and for older entries
    ADD reason  text NOT NULL DEFAULT '';  -- of a correction

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are never changed or deleted: add an entry instead', TG_TABLE_NAME
        USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON conversion_entry
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON period_close
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- Statements of one party.
CREATE INDEX conversion_entry_affiliate ON conversion_entry (affiliate_id, booked_at);
CREATE INDEX conversion_entry_advertiser ON conversion_entry (advertiser_id, booked_at);
