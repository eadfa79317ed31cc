"""Inputs from the field, a table a kind, through edge, API, command line and files."""
