"""Django's application and middleware, in a real Django of a process of its own: it is set up once."""

from children import run_script
from documents import Document

HOST = """
    import asyncio, sys, types
    from django.conf import settings

    from documents import Document

    host = types.ModuleType("host")
    sys.modules["host"] = host
    vars(host).update(Document("docs/integrations/django.md").run_example("django-settings"))
    chosen = {key: value for key, value in vars(host).items() if key.isupper()}
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", **chosen)

    import django
    from django.http import HttpResponse
    from django.test import AsyncClient, Client
    from django.urls import path

    from execution_logger import execution_logger
    from execution_logger.testing import capture_entries


    def view(request, number):
        execution_logger.sync.info(None, "api", "asked")
        return HttpResponse("")


    async def view_in_loop(request, number):
        await execution_logger.info(None, "api", "asked")
        return HttpResponse("")


    def broken(request):
        raise ValueError("no")


    urlpatterns = [
        path("runs/<number>", view), path("loop/<number>", view_in_loop), path("broken", broken)
    ]


    def show(entries):
        for entry in entries:
            details = entry.details or {}
            print(entry.task_id, entry.message, details["request_id"], details.get("route"), sep="|")
"""

EXPECTED = [
    "run-1|GET /{0}/7 开始|r-1|None",
    "run-1|asked|r-1|None",
    "run-1|GET /{0}/7 完成|r-1|{0}/<number>",
]


def test_requests_under_wsgi_and_asgi() -> None:
    """Sync and async views under either: an operation of the run that the header names."""
    said = run_script(
        HOST
        + """
    with capture_entries() as entries:
        django.setup()
        headers = {"X-Run-ID": "run-1", "X-Request-ID": "r-1"}
        for name in ("runs", "loop"):
            Client().get(f"/{name}/7?key=secret", headers=headers)
            asyncio.run(AsyncClient().get(f"/{name}/7", headers=headers))
        show(entries)
"""
    )
    assert said.splitlines() == [line.format(name) for name in ("runs", "loop") for line in EXPECTED * 2]


def test_a_view_that_fails() -> None:
    """Django makes it an answer before the middleware sees it: the operation ends with that status."""
    said = run_script(
        HOST
        + """
    with capture_entries() as entries:
        django.setup()
        Client(raise_request_exception=False).get("/broken")
        print(entries[-1].message, entries[-1].details["status"])
"""
    )
    assert said.splitlines()[-1] == "GET /broken 完成 500"


def test_a_wrong_setting_stops_the_start() -> None:
    """And not the first request."""
    said = run_script(
        HOST
        + """
    from execution_logger import SettingsError
    try:
        django.setup()
    except SettingsError as error:
        print(error)
""",
        environment={"EXECUTION_LOGGER_BATCH_SIZE": "many"},
    )
    assert "EXECUTION_LOGGER_BATCH_SIZE='many'" in said


def test_an_option_that_is_misspelt_stops_the_start() -> None:
    """With its name, and those that there are."""
    said = run_script(
        HOST
        + """
    from django.core.exceptions import ImproperlyConfigured
    django.setup()
    settings.EXECUTION_LOGGER = {"operaton": True}
    try:
        Client().get("/runs/7")
    except ImproperlyConfigured as error:
        print(error)
"""
    )
    assert "EXECUTION_LOGGER: 'operaton' is no option; operation and task_id are" in said


def test_the_example_names_what_there_is() -> None:
    """The names in the settings lead somewhere."""
    found = Document("docs/integrations/django.md").run_example("django-settings")
    assert found["EXECUTION_LOGGER"] == {"operation": True, "task_id": "X-Run-ID"}
