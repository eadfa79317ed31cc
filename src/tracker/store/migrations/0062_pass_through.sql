-- Parameters of tracking links that go on to an offer's page: names, or the beginning of names as in utm_*.
ALTER TABLE offer ADD pass_through text[] NOT NULL DEFAULT '{}';
