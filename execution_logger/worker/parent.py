"""The tie of a worker's process to the one that started it."""

import os
import signal
import threading


def stop_at_end_of_input() -> None:
    """Shut this process down, as by SIGTERM, once its standard input ends: who started it is gone.

    Without this a supervisor that is killed leaves a worker behind that nobody knows of.
    """

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="execution-logger-input", daemon=True).start()
