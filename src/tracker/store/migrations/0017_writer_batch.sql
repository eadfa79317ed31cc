-- Entries of a writer's last batch: to compress these numbers takes longer than to write them.
ALTER TABLE writer_batch ALTER entries SET STORAGE EXTERNAL;
