"""Secrets are found by their keys, however these are written."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from execution_logger.sensitive import MASK, SensitiveKeys, Verdict
from execution_logger.settings import SENSITIVE_KEYS

KEYS = SensitiveKeys(SENSITIVE_KEYS)


@pytest.mark.parametrize(
    "key",
    [
        "password", "PASSWORD", "db_password", "passwordHash", "pwd", "passwd", "client-secret", "apiKey",
        "accessToken", "X-Auth-Token", "token_2", "refresh_token", "api_key", "API-KEY", "api.key",
        "api key", "OPENAI_API_KEY", "aws_access_key_id", "private_key", "Authorization", "Set-Cookie",
        "credentials",
    ],
)  # fmt: skip
def test_these_are_masked(key: str) -> None:
    """Case and separators do not matter, nor what stands around the word."""
    assert KEYS[key] is Verdict.MASK


@pytest.mark.parametrize(
    "key",
    ["", "_", "author", "message", "pass", "key", "keyboard", "model", "api", "cost", "a" * 1000, "密码"],
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
