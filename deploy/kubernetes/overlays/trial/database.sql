-- Run once, when the database's volume is made: the role of the tracker is not a superuser.
\set password `cat /run/secrets/postgres-password`
CREATE ROLE tracker LOGIN PASSWORD :'password';
CREATE DATABASE tracker OWNER tracker;
