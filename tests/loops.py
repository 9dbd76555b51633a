"""The event loops that hosts run."""

import asyncio

import uvloop

LOOP_FACTORIES = (asyncio.new_event_loop, uvloop.new_event_loop)

# libuv opens a pipe with the first of its loops, and keeps it.
uvloop.new_event_loop().close()
