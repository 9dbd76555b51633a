"""What both ends know of Celery and Redis: connections, the queue, messages and confirmations."""
