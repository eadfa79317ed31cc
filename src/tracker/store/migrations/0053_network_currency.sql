-- The base goal of a new offer has the network's currency. Sessions of the tracker name it: the environment has it.
CREATE OR REPLACE FUNCTION add_base_goal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO goal (offer_id, name, is_base, is_priced, currency)
    VALUES (NEW.id, 'Conversion', true, false, coalesce(nullif(current_setting('tracker.currency', true), ''), 'USD'));
    RETURN NULL;
END $$;
