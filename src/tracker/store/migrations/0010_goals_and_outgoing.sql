-- What managing goals, secrets and affiliates' postbacks needs, and what sending those does.

ALTER TABLE advertiser_secret ADD version bigint NOT NULL DEFAULT nextval('catalogue_version');
CREATE TRIGGER raise_version BEFORE UPDATE ON advertiser_secret
    FOR EACH ROW EXECUTE FUNCTION raise_version();

-- The command line changes the catalogue, too, and has no token.
ALTER TABLE audit ALTER token_id DROP NOT NULL;

ALTER TABLE sent_postback
    ADD host        text        NOT NULL,  -- of its URL: each host has its turn, whatever the others do
    ADD give_up_at  timestamptz NOT NULL DEFAULT now() + interval '24 hours';

DROP INDEX sent_postback_due;
CREATE INDEX sent_postback_due     ON sent_postback (host, next_attempt_at) WHERE state = 'waiting';
CREATE INDEX sent_postback_made    ON sent_postback (created_at);
CREATE INDEX sent_postback_failed  ON sent_postback (coalesce(last_attempt_at, created_at))
    WHERE state = 'failed';
