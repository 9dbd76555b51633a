"""Secrets are found by their keys, however these are written."""

import re
import time
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_logger.entry.encoder import EntryEncoder
from execution_logger.entry.masking import MASK, SensitiveKeys, Verdict
from execution_logger.settings import SENSITIVE_KEYS, Settings

KEYS = SensitiveKeys(SENSITIVE_KEYS)


@pytest.mark.parametrize(
    "key",
    [
        "password", "PASSWORD", "db_password", "passwordHash", "pwd", "passwd", "client-secret", "apiKey",
        "accessToken", "X-Auth-Token", "token_2", "refresh_token", "api_key", "API-KEY", "api.key",
        "api key", "OPENAI_API_KEY", "aws_access_key_id", "private_key", "Authorization", "Set-Cookie",
        "credentials", "passphrase", "ssh_passphrase", "jwt", "refreshJwt", "bearer", "bearerAuth",
        "session_id", "sessionId", "SESSION-ID", "sessionid", "JSESSIONID", "session_ids", "session_id_2",
        "PHPSESSID", "sess_id", "connect.sid", "ASP.NET_SessionId",
        "dsn", "SENTRY_DSN", "sentryDsn", "dbDSN", "signature", "X-Hub-Signature-256", "requestSignature",
        "jwt_token_count",
    ],
)  # fmt: skip
def test_these_are_masked(key: str) -> None:
    """Case and separators do not matter, nor what stands around the word."""
    assert KEYS[key] is Verdict.MASK


@pytest.mark.parametrize(
    "key",
    [
        "",
        "_",
        "author",
        "message",
        "pass",
        "key",
        "keyboard",
        "model",
        "api",
        "cost",
        "a" * 1000,
        "密码",
        "session_count",
        "session",
        "session_idle_seconds",
        "session_ideas",
        "assess_id",
        "process_id",
        "reconnect_side",
        "records_number",
        "words_new",
        "signature_version",
        "signatureCount",
        "jwt_algorithm",
        "bearer_type",
        "session_id_length",
        "dsn_format",
        "name",
        "design",
        "assigned",
    ],
)
def test_these_are_kept(key: str) -> None:
    """A word is sensitive as a whole only."""
    assert KEYS[key] is Verdict.KEEP


@pytest.mark.parametrize(
    "key",
    [
        "prompt_tokens", "max_tokens", "total_tokens", "tokens_used", "completionTokens", "token_count",
        "token_usage", "token_limit", "completion_tokens_details", "input_token_details",
    ],
)  # fmt: skip
def test_counts_of_tokens_keep_their_numbers(key: str) -> None:
    """The log of an agent without them would be of little use."""
    assert KEYS[key] is Verdict.NUMBERS_ONLY


@pytest.mark.parametrize("key", ["token", "access_token", "secret_tokens", "password_token_count"])
def test_other_tokens_are_masked(key: str) -> None:
    """A token is a secret, and so is a count of something secret."""
    assert KEYS[key] is Verdict.MASK


def test_the_words_are_a_setting() -> None:
    """Words of any language; one of separators only would mask everything, and counts for nothing."""
    keys = SensitiveKeys(("Pass-Phrase", "密码", "--", ""))
    assert [keys[key] for key in ("my_passphrase", "用户密码", "password", "--")] == [
        Verdict.MASK, Verdict.MASK, Verdict.KEEP, Verdict.KEEP,
    ]  # fmt: skip


def test_what_is_remembered_is_bounded() -> None:
    """Keys may be data: ids without end, or whole prompts."""
    keys = SensitiveKeys(("password",))
    for number in range(10_000):
        assert keys[f"id {number}"] is Verdict.KEEP
        assert keys["password" + "x" * 1000 + str(number)] is Verdict.MASK
    assert len(keys) < 5000
    assert max(map(len, keys)) < 100


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("Login(user='ann', password='hunter2')", f"Login(user='ann', password={MASK})"),
        ("{'user': 'ann', 'password': 'hunter2'}", f"{{'user': 'ann', 'password':{MASK}}}"),
        ('{"password":"hunter2","user":"ann"}', f'{{"password":{MASK},"user":"ann"}}'),
        ("password=hunter2", f"password={MASK}"),
        ("Login(password=None, user=1)", f"Login(password={MASK}, user=1)"),
        ("{'password': 'hun\\'ter2', 'user': 1}", f"{{'password':{MASK}, 'user': 1}}"),
        ("Login(password=Secret('hunter2'))", f"Login(password={MASK}"),
        ("{'config': {'password': ['hunter2', 'hunter3']}}", f"{{'config': {{'password':{MASK}"),
        ("password='hunter2 is cut off", f"password={MASK}"),
        ("{'password':\n 'hunter2',\n 'user': 1}", f"{{'password':{MASK},\n 'user': 1}}"),
        ("password=token=hunter2", f"password={MASK}"),
        ("Usage(max_tokens=4096, tokens='hunter2')", f"Usage(max_tokens=4096, tokens={MASK})"),
        ("jwt.InvalidTokenError: expired", "jwt.InvalidTokenError: expired"),
        ("token = get_token(user)", "token = get_token(user)"),
        ("", ""),
    ],
)
def test_the_text_of_an_object_shows_no_secrets(text: str, masked: str) -> None:
    """A repr is masked as a dict is; prose and the code in a traceback stay readable."""
    assert KEYS.masked(text) == masked


@given(st.text())
def test_a_text_without_pairs_stays_as_it_is(text: str) -> None:
    """Only what stands after a name is ever replaced."""
    plain = text.replace("=", "").replace(":", "")
    assert KEYS.masked(plain) == plain


@given(
    st.text(st.characters(exclude_characters="\n")), st.sampled_from(["'password': {!r}", "password={!r}"])
)
def test_a_secret_is_masked_whatever_it_is(secret: str, template: str) -> None:
    """Quotes, brackets and backslashes in it do not end it early."""
    text = KEYS.masked(f"<{template.format(secret)}>")
    assert text in (f"<'password':{MASK}>", f"<password={MASK}>")


@pytest.mark.parametrize(
    "text", ["a" * 100_000, "'a" * 50_000, "a-" * 50_000, "password=" * 10_000, '"' * 100_000]
)
def test_masking_takes_time_in_proportion_to_the_text(text: str) -> None:
    """No text makes the search go over it again and again."""
    began_at = time.process_time()
    KEYS.masked(text)
    assert time.process_time() - began_at < 1


FIELDS = st.sampled_from(
    ["count", "number", "version", "index", "name", "seconds", "size", "total", "model", "step"]
)


@given(
    st.sampled_from(["session", "tool", "step", "record", "run", "design"]), FIELDS, st.sampled_from("_-. ")
)
def test_harmless_fields_are_kept(noun: str, field: str, separator: str) -> None:
    """However they are written."""
    for key in (f"{noun}{separator}{field}", f"{noun}{field.title()}", f"{noun}s{separator}{field}".upper()):
        assert KEYS[key] is Verdict.KEEP


@given(
    st.sampled_from(SENSITIVE_KEYS),
    st.sampled_from(["", "db", "user", "x"]),
    st.sampled_from("_-. "),
    st.sampled_from([str.lower, str.upper, str.title]),
)
def test_a_word_is_found_however_it_is_written(
    word: str, before: str, separator: str, case: Callable[[str], str]
) -> None:
    """With any separator, in any case."""
    key = separator.join([before, *word.split("_")] if before else word.split("_"))
    assert KEYS[case(key)] is Verdict.MASK


# Credentials in texts -------------------------------------------------------------------------------

url_secrets = st.text(
    st.characters(exclude_categories=["Cc", "Cs", "Z"], exclude_characters='"<>'), min_size=3
).filter(lambda text: not re.match(r"\d+'", text))  # which might be a port, and the end of a URL


@given(
    url_secrets.map(lambda text: quote(text, safe="!$&'()*+,;=")),
    st.sampled_from(
        [
            "redis://:{}@host:6379/0", "postgresql://app:{}@[::1]:5432/db", "https://{}@host", "amqp://u:{}@h//",
            "sentinel://:{}@a:1;sentinel://:{}@b:1", "sqla+postgresql://u:{}@h/d?sslmode=on",
        ]
    ),
    st.sampled_from(["{}", "cannot reach {}: refused", '{{"url": "{}"}}', "['{}', 'a@b']", "<{}>", "\n{}\n"]),
)  # fmt: skip
def test_a_text_shows_no_login_of_a_url(secret: str, url: str, around: str) -> None:
    """Whatever is around it; host and path stay."""
    text = around.format(url.format(secret, secret) if url.count("{}") == 2 else url.format(secret))
    expected = around.format(url).replace("app:{}", MASK).replace("u:{}", MASK).replace(":{}", MASK)
    assert KEYS.without_credentials(text) == expected.replace("{}", MASK)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("redis://:pa/ss?w#rd@host/0", f"redis://{MASK}@host/0"),
        ("redis://:pa@ss@host/0", f"redis://{MASK}@host/0"),
        ("redis://:pa'ss@host/0 x", f"redis://{MASK}@host/0 x"),
        ("redis://:a')secret@h", f"redis://{MASK}@h"),
        ("redis://u:')secret@h and", f"redis://{MASK}@h and"),
        ("['http://h:80','a@b'], ('http://h','a@b')", "['http://h:80','a@b'], ('http://h','a@b')"),
        (r'{"url":"redis:\/\/:secret@h\/0"}', rf'{{"url":"redis:\/\/{MASK}@h\/0"}}'),
        (r"redis:\\\/\\\/u:s@h", rf"redis:\\\/\\\/{MASK}@h"),
        (r"https:\/\/h:80\/@user\/a@2x.png", r"https:\/\/h:80\/@user\/a@2x.png"),
        ("postgresql://h/d?sslpassword=x&sslmode=on", f"postgresql://h/d?sslpassword={MASK}&sslmode=on"),
        ("https://h/?a=1&access_token=x#b", f"https://h/?a=1&access_token={MASK}#b"),
        ("https://h/#id_token=x&state=1", f"https://h/#id_token={MASK}&state=1"),
        ("https://h/b?sv=1&sig=a%2Fb&se=2", f"https://h/b?sv=1&sig={MASK}&se=2"),
        ("https://h/b?X-Amz-Signature=abc", f"https://h/b?X-Amz-Signature={MASK}"),
        ("url 'https://h/v1?key=abc' failed", f"url 'https://h/v1?key={MASK}' failed"),
        ("host=h password=x dbname=d", f"host=h password={MASK} dbname=d"),
        ("host=h password='a \\' b' sslpassword=y", f"host=h password={MASK} sslpassword={MASK}"),
        ("Server=h;Password=x;Pooling=on", f"Server=h;Password={MASK}"),  # it may hold a `;`
        ("https://host:8080/@user/post@2x.png", "https://host:8080/@user/post@2x.png"),
        ("https://host/a:b@c and me@example.com", "https://host/a:b@c and me@example.com"),
        ("see http://host:80, mail a@b.c", "see http://host:80, mail a@b.c"),
        ("https://[::1]:80/a@b", "https://[::1]:80/a@b"),
        (
            "https://h/?max_tokens=5&signature_version=4&page=2",
            "https://h/?max_tokens=5&signature_version=4&page=2",
        ),
        ("redis://h1:1;redis://h2:1", "redis://h1:1;redis://h2:1"),
        ("what is my password?", "what is my password?"),
        ("password = hunter2", f"password = {MASK}"),
        ("Password: hunter", f"Password: {MASK}"),
        ("DB_PASSWORD : 'a b', next", f"DB_PASSWORD : {MASK}, next"),
        ("user: ann password: hunter host: x", f"user: ann password: {MASK} host: x"),
        ('{"password": "a\\"b", "user": "ann"}', f'{{"password": {MASK}, "user": "ann"}}'),
        ("passwd => 'hunter2'", f"passwd => {MASK}"),
        ("Authorization: Bearer abc and more", "Authorization: Bearer abc and more"),  # as prose has it
        ("sent Authorization: Bearer abc1 and got 401", f"sent Authorization: Bearer {MASK} and got 401"),
        ("Proxy-Authorization: Basic dXNlcg==", f"Proxy-Authorization: Basic {MASK}"),
        ('authorization: Digest u="a b", realm="x", then', f"authorization: Digest {MASK}, then"),
        ("{'Authorization': 'Bearer abc', 'a': 1}", f"{{'Authorization': 'Bearer {MASK}', 'a': 1}}"),
        ("refused: Bearer eyJhb.eyJz.c2ln", f"refused: Bearer {MASK}"),
        ("Cookie: PHPSESSID=a1; theme=dark", f"Cookie: PHPSESSID={MASK}; theme=dark"),
        ("Cookie: JSESSIONID=1A.node1", f"Cookie: JSESSIONID={MASK}"),
        ("Set-Cookie: connect.sid=s%3Aab; Path=x", f"Set-Cookie: connect.sid={MASK}; Path=x"),
        ("Set-Cookie: sessionid=ab", f"Set-Cookie: sessionid={MASK}"),
        ("Cookie: ASP.NET_SessionId=ab", f"Cookie: ASP.NET_SessionId={MASK}"),
        *(
            (prose, prose)
            for prose in (
                "the password is wrong",
                "bearer of bad news",
                "Bearer of bad news",
                "Bearer authentication failed",
                "password: too short",
                "invalid password: it doesn't work",
                "password: This field is required.",
                "Authorization: Bearer token missing",
                "Authorization: required for this",
                "Enter your password: ",
                "'password:' is missing, not 'ok'",
                "password = get_password(user)",
                "if password == expected:",
                "Password::make()",
                "password: null",
                "passwords: 5",
                "the session: ended",
            )
        ),
    ],
)
def test_credentials_in_texts(text: str, masked: str) -> None:
    """Those are masked, and what looks like them stays."""
    assert KEYS.without_credentials(text) == masked
    assert KEYS.without_credentials(masked) == masked
    entry, _ = EntryEncoder(Settings()).make("t", "info", "api", text, details={"x": text, "y": [text]})
    assert entry.message == masked
    assert entry.details == {"x": masked, "y": [masked]}


@pytest.mark.parametrize("before", ["", "to ", f"to {'a ' * 100}"])
def test_a_login_that_never_ends_is_masked_where_a_text_is_cut(before: str) -> None:
    """Its end cannot be seen."""
    text = f"{before}redis://u:{'secret' * 10_000}@h"
    assert KEYS.beginning(text, 300) == f"{before}redis://{MASK}@"


def test_a_token_is_masked_in_a_text_of_details() -> None:
    """Also where nothing but its length and its scheme tells."""
    entry, _ = EntryEncoder(Settings()).make(
        "t", "info", "api", "x", details={"x": f"got Bearer {'a1' * 300}"}
    )
    assert entry.details == {"x": f"got Bearer {MASK}"}


@pytest.mark.parametrize(
    "text",
    [
        "://" * 30_000,
        "://a:b" * 20_000,
        "&a" * 50_000,
        "://?" + "a=" * 50_000,
        "password='" * 10_000,
        "://'" * 30_000,
        "password" + " " * 100_000,
        "password: " * 10_000,
        "password: aa " * 10_000,
        "password: 'a\\" * 10_000,
        "password" + "\\" * 100_000,
        "authorization: bearer " * 10_000,
        "authorization: a" + ",a=" * 50_000,
        "authorization: a=" * 10_000,
        "bearer " * 20_000,
        "bearer " + "a-" * 100_000,
        "bearer " + "a." * 100_000,
    ],
)
def test_looking_for_credentials_takes_time_in_proportion_to_the_text(text: str) -> None:
    """Whatever it is made of."""
    began_at = time.process_time()
    KEYS.without_credentials(f"://{text}")
    assert time.process_time() - began_at < 2
