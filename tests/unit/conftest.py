"""Unit tests need no server and take seconds."""
