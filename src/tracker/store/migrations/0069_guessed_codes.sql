-- The time of a password, and what tells a new password from the same one with a new hash.
ALTER TABLE user_account
    ADD password_since timestamptz,  -- NULL: none, or from before this column
    ADD rehashes       integer NOT NULL DEFAULT 0;

CREATE OR REPLACE FUNCTION raise_rights() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    is_new_password boolean := NEW.password_hash IS DISTINCT FROM OLD.password_hash AND NEW.rehashes = OLD.rehashes;
BEGIN
    IF is_new_password THEN
        NEW.password_since := now();
    END IF;
    IF is_new_password OR
        (NEW.role, NEW.affiliate_ids, NEW.advertiser_ids, NEW.hides_money, NEW.is_disabled, NEW.totp_since)
        IS DISTINCT FROM
        (OLD.role, OLD.affiliate_ids, OLD.advertiser_ids, OLD.hides_money, OLD.is_disabled, OLD.totp_since)
    THEN
        NEW.rights := OLD.rights + 1;
    END IF;
    IF (NEW.email, NEW.name, NEW.rights) IS DISTINCT FROM (OLD.email, OLD.name, OLD.rights) THEN
        NEW.version := OLD.version + 1;
    END IF;
    RETURN NEW;
END $$;

-- Wrong codes of the second factor, to find users whose codes are guessed.
CREATE INDEX audit_wrong_code ON audit (path, at)
    WHERE resource = 'user_account' AND after ->> 'second_factor' = 'wrong code';
