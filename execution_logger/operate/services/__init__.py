"""The processes beside the hosts, worker, Beat and Flower, on a machine that has no service manager for them.

`manager` starts and stops them, each under a `runner` that keeps its log and its record.
"""
