-- Who switched an affiliate's postback off. What the network paused or archived, the affiliate cannot switch on.
-- NULL: it is on. What is off today may be the network's doing, so the network decides.
ALTER TABLE affiliate_postback ADD paused_by text CHECK (paused_by IN ('network', 'affiliate'));
UPDATE affiliate_postback SET paused_by = 'network' WHERE status = 'paused' OR is_archived;

-- The application says in tracker.editor who makes the change: nothing for the network, affiliate, or 'affiliate, off by
-- network' for the URL of an affiliate that comes from elsewhere as the network left it.
CREATE OR REPLACE FUNCTION note_editor_of_url() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    editor text := coalesce(current_setting('tracker.editor', true), '');
    switches_off boolean;
BEGIN
    IF TG_OP = 'UPDATE' AND NEW.url = OLD.url THEN
        NEW.url_saved_by := OLD.url_saved_by;
    ELSE
        NEW.url_saved_by := CASE WHEN editor LIKE 'affiliate%' THEN 'affiliate' ELSE 'network' END;
    END IF;
    IF TG_OP = 'INSERT' THEN
        switches_off := true;
    ELSE
        switches_off := NEW.status = 'paused' AND OLD.status <> 'paused' OR NEW.is_archived AND NOT OLD.is_archived;
    END IF;
    IF NEW.status <> 'paused' AND NOT NEW.is_archived THEN
        NEW.paused_by := NULL;
    ELSIF NOT switches_off THEN
        NEW.paused_by := OLD.paused_by;
    ELSIF editor <> 'affiliate' THEN
        NEW.paused_by := 'network';
    ELSIF TG_OP = 'INSERT' THEN
        NEW.paused_by := 'affiliate';
    ELSE
        NEW.paused_by := coalesce(OLD.paused_by, 'affiliate');
    END IF;
    RETURN NEW;
END $$;
