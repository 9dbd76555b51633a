"""The jobs: what has to be done from time to time, each in a module of its own."""
