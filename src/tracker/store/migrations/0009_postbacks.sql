-- Edges know by its secret whose postback it is; they get the hashes only.
CREATE TRIGGER tell_edges AFTER INSERT OR UPDATE OR DELETE ON advertiser_secret
    FOR EACH ROW EXECUTE FUNCTION tell_edges('secret', 'id');

-- What of the log is thrown away one day.
CREATE INDEX postback_without_conversion ON postback (hash) WHERE conversion_id IS NULL;
