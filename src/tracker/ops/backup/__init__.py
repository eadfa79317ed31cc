"""Backups of the embedded engines.

A backup is a directory:

    manifest.json   describes the files below, with size and SHA-256 of each
    postgres.dump   pg_dump's custom format
    valkey/         the append-only file: its own manifest, and the files that it names
    spool/          segments that edges had not drained yet

The parts are copied in the order of a click's way: spools, stream, table. A click that moves on meanwhile is
in two copies, and its hash makes them one. In the other order it could be in none. Stream and table are
copied at one moment so that their counts agree. At that moment every stored click has left the stream.
"""
