"""Damage to files: what disks, editors and half-finished copies do to them."""

from collections.abc import Callable, Mapping
from random import Random

Harm = Callable[[bytes, Random], bytes]


def flip(data: bytes, random: Random) -> bytes:
    """Flip single bits here and there."""
    harmed = bytearray(data)
    for _ in range(random.choice((1, 5, 50))):
        harmed[random.randrange(len(harmed))] ^= 1 << random.randrange(8)
    return bytes(harmed)


def zero(data: bytes, random: Random) -> bytes:
    """A block of zeros, as file systems leave one after a crash."""
    at, size = random.randrange(len(data)), random.choice((1, 100, 4096))
    return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]


def cut_end(data: bytes, random: Random) -> bytes:
    """The end is missing."""
    return data[: random.randrange(len(data))]


def cut_out(data: bytes, random: Random) -> bytes:
    """A piece from the middle is missing."""
    at, size = random.randrange(len(data)), random.choice((1, 100, 10_000))
    return data[:at] + data[at + size :]


def insert(data: bytes, random: Random) -> bytes:
    """Something foreign in the middle, with and without line breaks."""
    at = random.randrange(len(data))
    foreign = random.choice(
        (b"\n", b"\n\n\n", b"\r\n", b"null\n", b"{}\n", b"[]\n", b"\0", b"\xff\xfe\n", b"{" * 5_000)
    )
    return data[:at] + foreign + data[at:]


def noise(data: bytes, random: Random) -> bytes:
    """Foreign bytes at the beginning or at the end."""
    foreign = random.randbytes(random.choice((1, 1_000, 100_000)))
    return foreign + data if random.random() < 0.5 else data + foreign


def crlf(data: bytes, random: Random) -> bytes:
    """An editor of another system has changed the ends of lines."""
    return data.replace(b"\n", b"\r\n")


def everything(data: bytes, random: Random) -> bytes:
    """Nothing of it is left."""
    return random.choice((b"", b"\n", random.randbytes(1_000)))


HARMS: Mapping[str, Harm] = {
    function.__name__: function
    for function in (flip, zero, cut_end, cut_out, insert, noise, crlf, everything)
}
