"""A test platform on Flask and Celery: web tests and load tests of the host itself."""
