"""Inputs from the field, one table a kind, through the live edge, API, command line and files."""
