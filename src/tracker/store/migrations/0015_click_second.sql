-- When a conversion's click was followed (Unix seconds): to read it out of the hash takes longer than all else.
ALTER TABLE conversion ADD COLUMN click_second bigint NOT NULL
    GENERATED ALWAYS AS (click_millis(click_hash) / 1000) STORED;
