ALTER TABLE import_run ADD replaced bigint NOT NULL DEFAULT 0;  -- rows that have become what the file says

-- The sent postbacks of a conversion, because one that is deleted must have none.
CREATE INDEX sent_postback_conversion ON sent_postback (conversion_id);
