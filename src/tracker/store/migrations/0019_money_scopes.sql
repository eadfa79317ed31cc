-- money:read and money:write are rights of their own: tokens made before had more than their scopes say now.
ALTER TABLE token ADD predates_money boolean NOT NULL DEFAULT true;
ALTER TABLE token ALTER predates_money SET DEFAULT false;
