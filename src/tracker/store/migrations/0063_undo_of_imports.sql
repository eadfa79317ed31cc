-- The sent postbacks of a conversion, because one that is deleted must have none.
CREATE INDEX sent_postback_conversion ON sent_postback (conversion_id);
