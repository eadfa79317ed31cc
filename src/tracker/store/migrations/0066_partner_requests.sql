-- What affiliates do themselves: they save URLs for postbacks, and ask to run offers that need approval.

-- Who saved the URL last. The application says it in the transaction of a change, and SQL by hand is the network's.
ALTER TABLE affiliate_postback
    ADD url_saved_by text NOT NULL DEFAULT 'network' CHECK (url_saved_by IN ('network', 'affiliate'));
CREATE FUNCTION note_editor_of_url() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.url = OLD.url THEN
        NEW.url_saved_by := OLD.url_saved_by;
    ELSE
        NEW.url_saved_by := CASE current_setting('tracker.editor', true)
            WHEN 'affiliate' THEN 'affiliate' ELSE 'network' END;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER note_editor BEFORE INSERT OR UPDATE ON affiliate_postback
    FOR EACH ROW EXECUTE FUNCTION note_editor_of_url();

-- Whether its URL was an affiliate's when it was made. It then goes to public addresses only.
ALTER TABLE sent_postback ADD is_strict boolean NOT NULL DEFAULT false;

-- An application is the part of the terms that the affiliate writes. `reason` is the network's, for the affiliate.
ALTER TABLE offer_affiliate
    ADD reason          text NOT NULL DEFAULT '',
    ADD asked_at        timestamptz,              -- NULL: the affiliate never asked
    ADD asked_by        text NOT NULL DEFAULT '', -- name of the token
    ADD asked_token_id  bigint,
    ADD note            text NOT NULL DEFAULT '', -- what the affiliate says about itself
    ADD decided_at      timestamptz;              -- NULL: nobody has, or before there were applications
CREATE INDEX offer_affiliate_asked ON offer_affiliate (asked_at) WHERE asked_at IS NOT NULL;

CREATE FUNCTION note_decision() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'INSERT' OR NEW.status <> OLD.status THEN
        NEW.decided_at := CASE WHEN NEW.status <> 'pending' THEN now() END;
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER note_decision BEFORE INSERT OR UPDATE OF status ON offer_affiliate
    FOR EACH ROW EXECUTE FUNCTION note_decision();
