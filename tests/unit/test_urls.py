"""URLs are shown without what is secret in them, whoever wrote them."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_logger.journal import find_destination
from execution_logger.settings import Settings
from execution_logger.text import HIDDEN, public_url

hosts = st.sampled_from(
    ["", "host", "db-1.example.com", "host:6379", "[::1]:6379", "[fe80::1%25eth0]", "a:1,b:2"]
)
schemes = st.sampled_from(
    ["redis", "rediss", "sentinel", "sqla+postgresql", "postgresql+asyncpg", "amqp", "db+mysql"]
)
passwords = st.text(st.characters(codec="utf-8"), min_size=1)


@given(schemes, st.sampled_from(["", "user"]), passwords, hosts, st.sampled_from(["", "/0", "//", "/a/b"]))
def test_a_legal_url_shows_all_but_its_credentials(
    scheme: str, user: str, password: str, host: str, path: str
) -> None:
    """Whatever is in the password, wherever it stands."""
    secret = quote(password, safe="")
    assert (
        public_url(f"{scheme}://{user}:{secret}@{host}{path}?password={secret}") == f"{scheme}://{host}{path}"
    )
    assert public_url(f"{scheme}://{secret}@{host}{path}#{secret}", "***@") == f"{scheme}://***@{host}{path}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("", ""),
        ("postgresql://host/db?password=p@cret", "postgresql://host/db"),
        ("postgresql://host/db?user=a@b&sslpassword=cret", "postgresql://host/db"),
        ("postgresql:///db?host=/run&password=cret", "postgresql:///db"),
        ("redis://:p;cret@host/0", "redis://host/0"),
        ("redis://:p;cret@a/0;redis://:cret@b/0", "redis://a/0;redis://b/0"),
        ("redis://:p/cr?e@cret@host", HIDDEN),
        ("redis://user:12/cret@host", HIDDEN),
        ("redis://:p@ss/cret@host", HIDDEN),
        ("redis://:p@ss?cret@host", HIDDEN),
        ("redis://:cret", HIDDEN),
        ("host=db password=cret", HIDDEN),
        ("sqlite:////home/me@work/logs.db", "sqlite:////home/me@work/logs.db"),
        ("sqs://KEY:cr/et+cret=@", "sqs://"),
        ("azurestoragequeues://:cret@https://account.queue", "azurestoragequeues://https://account.queue"),
    ],
)
def test_what_cannot_be_told_from_a_password_is_hidden(url: str, shown: str) -> None:
    """Better nothing than a part of it."""
    assert public_url(url) == shown


def test_hidden_places_are_different_places() -> None:
    """Processes of two databases do not ship for each other."""
    urls = ("postgresql://u:p@ss/w@one/db", "postgresql://u:p@ss/w@two/db")
    found = [find_destination(Settings(database_url=url, celery_enabled=False)) for url in urls]
    assert found[0].folder != found[1].folder
    assert "ss" not in found[0].description.replace("hidden", "")
