"""The stream between edges and writers, and the only importer of redis. keys.py names every key."""
