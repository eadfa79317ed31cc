-- Each webhook has its turn, instead of each host: of several webhooks at one host, one may never answer.
ALTER TABLE webhook DROP COLUMN host;
UPDATE sent_webhook SET host = 'webhook ' || webhook_id WHERE state = 'waiting';

CREATE OR REPLACE FUNCTION follow_webhook() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sent_webhook SET url = NEW.url WHERE webhook_id = NEW.id AND state = 'waiting' AND url <> NEW.url;
    IF NEW.status <> 'active' OR NEW.is_archived THEN
        UPDATE sent_webhook
        SET state = 'failed', next_attempt_at = NULL, last_error = 'its webhook is paused or archived'
        WHERE webhook_id = NEW.id AND state = 'waiting';
    END IF;
    RETURN NULL;
END $$;
