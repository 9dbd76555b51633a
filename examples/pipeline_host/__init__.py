"""A scheduled collection pipeline on Celery, whose runs are logged by execution_logger: see README.md."""
