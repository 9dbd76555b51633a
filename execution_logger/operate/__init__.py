"""For those who operate a site: checks, status, metrics and health."""
