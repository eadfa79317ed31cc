"""Backups of the embedded engines.

A backup is a directory:
    manifest.json         what it holds, with size and SHA-256 of each of the files below
    postgres.dump         pg_dump's custom format
    valkey/               the append-only file: its own manifest, and the files that it names
    spool/                segments that edges had not drained yet

It is copied in the order in which a click travels: spools, stream, table. A click that moves on meanwhile is
then in two copies, and its hash makes one of them; in the other order it would be in none. So that the counts
agree too, stream and table are taken at one moment, while no click is stored that still waits on the stream.
"""
