"""Imports the data of another tracker, or of another installation of this one, from files."""
