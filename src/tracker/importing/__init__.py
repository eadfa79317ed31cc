"""Moving in: what another tracker, or another installation of this one, knows, read from files."""
