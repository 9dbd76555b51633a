"""What workers of the tests find in Flower's place.

Celery loads each package that adds a command to it, whatever the command is: Flower takes a quarter of what a
worker's start costs. What cannot be loaded Celery leaves alone.
"""
