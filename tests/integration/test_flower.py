"""`execution-logger flower`, on a Redis with a password."""

import signal
import subprocess
import sys

import httpx
import psutil

from server import free_port
from servers import RedisServer
from waiting import wait_until
from workers import WorkerProcess

COMMAND = (sys.executable, "-P", "-m", "execution_logger.cli", "flower")
PASSWORD = "only-redis-knows"  # not any account's


def test_flower_shows_the_queue_and_no_password(own_redis_server: RedisServer) -> None:
    """Neither in a command line nor on a page or in a log; and it ends in order."""
    with own_redis_server.client() as client:
        client.config_set("requirepass", PASSWORD)
    port = str(free_port())
    environment = {
        "CELERY_BROKER_URL": own_redis_server.url().replace("//", f"//:{PASSWORD}@"),
        "DATABASE_URL": "sqlite:///unused.db",
        "FLOWER_PORT": port,
    }
    flower = WorkerProcess(COMMAND, environment=environment)
    try:
        flower.start(ready="Visit me at")
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=300) as browser:
            assert browser.get("/healthcheck").text == "OK"
            wait_until(lambda: ">logs<" in "".join(browser.get("/broker").text.split()), 20)
            pages = [browser.get(path).text for path in ("/", "/broker", "/tasks", "/metrics")]
        taken = subprocess.run(
            COMMAND,
            check=False,
            env=flower.environment,
            capture_output=True,
            text=True,
            timeout=300,
        )
        shown = [*pages, *psutil.Process(flower.pid).cmdline(), flower.output, taken.stderr]
        assert not any(PASSWORD in text for text in shown)
        assert taken.returncode == 3
        assert taken.stderr.startswith(f"execution-logger: Flower cannot listen on 127.0.0.1:{port}")
        flower.process.send_signal(signal.SIGTERM)
        assert flower.process.wait() == 0
    finally:
        flower.close()
