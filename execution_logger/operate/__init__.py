"""For those who operate a site: checks, status, metrics, health, and the services of one machine."""
