-- An offer's unique window and scope may change while it runs. Edges go on looking for visitors where the former
-- setting remembers them, so nobody is unique once more.

CREATE TABLE former_uniqueness (
    offer_id       bigint      NOT NULL REFERENCES offer ON DELETE CASCADE,
    unique_window  integer     NOT NULL,  -- seconds
    unique_scope   text        NOT NULL,
    changed_at     timestamptz NOT NULL,  -- when it became a former one
    until          timestamptz NOT NULL,  -- from then on it remembers nobody
    PRIMARY KEY (offer_id, unique_window, unique_scope)
);

-- The four that last longest are kept: each is one more look-up for each new visitor.
CREATE FUNCTION keep_former_uniqueness() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM former_uniqueness
    WHERE offer_id = NEW.id
        AND (until <= now() OR (unique_window, unique_scope) = (NEW.unique_window, NEW.unique_scope));
    -- What a window remembers is gone after two windows and an hour: record_clicks.lua.
    INSERT INTO former_uniqueness VALUES (
        NEW.id, OLD.unique_window, OLD.unique_scope, now(),
        now() + make_interval(hours => 1, secs => 2 * OLD.unique_window));
    DELETE FROM former_uniqueness
    WHERE offer_id = NEW.id AND (unique_window, unique_scope) IN (
        SELECT unique_window, unique_scope FROM former_uniqueness
        WHERE offer_id = NEW.id ORDER BY until DESC OFFSET 4);
    RETURN NULL;
END $$;
CREATE TRIGGER keep_former_uniqueness AFTER UPDATE ON offer FOR EACH ROW
    WHEN ((OLD.unique_window, OLD.unique_scope) IS DISTINCT FROM (NEW.unique_window, NEW.unique_scope))
    EXECUTE FUNCTION keep_former_uniqueness();
