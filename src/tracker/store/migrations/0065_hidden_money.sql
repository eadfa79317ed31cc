-- A token that hides money sees no amount.
ALTER TABLE token ADD hides_money boolean NOT NULL DEFAULT false;
