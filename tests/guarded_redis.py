"""Redis servers as large sites run them: over TLS, with users, behind Sentinel."""

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import redis

from processes import LocalProcess, Running
from server import MissingServerError, Server
from servers import RedisServer
from waiting import wait_until

MASTER_NAME = "logs-master"

_DAYS = "2"
_FAILOVER_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Certificates:
    """A certificate authority of the tests' own, and what it has signed for 127.0.0.1."""

    folder: Path

    @property
    def authority(self) -> Path:
        """The authority's certificate."""
        return self.folder / "ca.pem"

    def of(self, name: str) -> tuple[Path, Path]:
        """A certificate and its key."""
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def query(self, **others: str) -> str:
        """The options of a URL: the authority and the client's certificate; an empty one is left out."""
        certificate, key = self.of("client")
        options = {
            "ssl_ca_certs": str(self.authority),
            "ssl_certfile": str(certificate),
            "ssl_keyfile": str(key),
            **others,
        }
        return "&".join(f"{name}={value}" for name, value in options.items() if value)

    @classmethod
    def make(cls, folder: Path) -> "Certificates":
        """Make an authority, a certificate for servers, and one for clients; takes openssl."""
        certificates = cls(folder)
        key, authority = folder / "ca.key", certificates.authority
        _openssl(
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=tests", key, authority
        )
        extension = folder / "extensions.txt"
        extension.write_text("subjectAltName=IP:127.0.0.1\n")
        for name in ("server", "client"):
            certificate, own_key = certificates.of(name)
            request = folder / f"{name}.csr"
            _openssl(
                f"req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN={name}", own_key, request
            )
            signing = (
                f"x509 -req -in {request} -CA {authority} -CAkey {key} -days {_DAYS} -extfile {extension}"
            )
            _run_openssl(*signing.split(), "-out", str(certificate))
        return certificates


class TlsRedisServer(RedisServer):
    """A Redis that speaks nothing but TLS, and takes no client without a certificate."""

    def __init__(self, certificates: Certificates, **options: str | int) -> None:
        certificate, key = certificates.of("server")
        super().__init__(
            tls_cert_file=str(certificate),
            tls_key_file=str(key),
            tls_ca_cert_file=str(certificates.authority),
            **options,
        )
        self._options |= {"port": 0, "tls_port": self.port}
        self._certificates = certificates

    def url(self, database: int = 0, **query: str) -> str:
        """`rediss://` with the authority and the client's certificate, unless the query names others."""
        return f"rediss://127.0.0.1:{self.port}/{database}?{self._certificates.query(**query)}"

    def _launch_container(self) -> Running:
        raise MissingServerError("the certificates are on this machine: redis-server must be, too")


class SentinelServer(Server):
    """One Sentinel, which decides alone that a master is gone."""

    program = RedisServer.program
    places = RedisServer.places
    package = RedisServer.package
    image = RedisServer.image

    def __init__(
        self, master: RedisServer, *, password: str = "", certificates: Certificates | None = None
    ) -> None:
        super().__init__()
        self._password = password
        self._certificates = certificates
        self._configuration = self.folder / "sentinel.conf"
        # Sentinel writes into this file what it has found out.
        self._configuration.write_text(
            f"bind 127.0.0.1\ndir {self.folder}\n"
            + (f"port {self.port}\n" if certificates is None else self._tls_lines(certificates))
            + (f"requirepass {password}\n" if password else "")
            + f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master.port} 1\n"
            f"sentinel down-after-milliseconds {MASTER_NAME} 500\n"
            f"sentinel failover-timeout {MASTER_NAME} 3000\n"
        )

    def _tls_lines(self, certificates: Certificates) -> str:
        certificate, key = certificates.of("server")
        return (
            f"port 0\ntls-port {self.port}\ntls-replication yes\ntls-ca-cert-file {certificates.authority}\n"
            f"tls-cert-file {certificate}\ntls-key-file {key}\n"
        )

    def url(self, database: int = 0) -> str:
        """`sentinel://127.0.0.1:port/database`, with the certificates where there are any."""
        query = "" if self._certificates is None else f"?{self._certificates.query()}"
        return f"sentinel://127.0.0.1:{self.port}/{database}{query}"

    def client(self) -> "redis.Redis":
        """A client of the Sentinel itself."""
        query = "" if self._certificates is None else f"?{self._certificates.query()}"
        scheme = "redis" if self._certificates is None else "rediss"
        return redis.Redis.from_url(
            f"{scheme}://:{self._password}@127.0.0.1:{self.port}{query}",
            decode_responses=True,
            socket_timeout=60,
        )

    def wait_for_replica(self) -> None:
        """Wait until it knows a replica that a failover could promote."""
        with self.client() as client:
            wait_until(
                lambda: any(
                    each["role-reported"] == "slave" and each["master-link-status"] == "ok"
                    for each in client.sentinel_slaves(MASTER_NAME)
                ),
                _FAILOVER_SECONDS,
            )

    def wait_for_master(self, port: int) -> None:
        """Wait until it has made the server of this port the master."""
        with self.client() as client:
            wait_until(lambda: self._master_port(client) == port, _FAILOVER_SECONDS)

    def _master_port(self, client: Any) -> int:
        return int(client.sentinel_get_master_addr_by_name(MASTER_NAME)[1])

    def _answers(self) -> bool:
        with self.client() as client:
            return bool(client.ping())

    def _launch_local(self) -> Running:
        assert self._binaries is not None
        command = [str(self._binaries / self.program), str(self._configuration), "--sentinel"]
        return LocalProcess(command, output=self.folder / "output.txt")

    def _launch_container(self) -> Running:
        raise MissingServerError("a Sentinel in a container does not see this machine's ports")


def _openssl(command: str, key: Path, output: Path) -> None:
    _run_openssl(*command.split(), "-keyout", str(key), "-out", str(output))


def _run_openssl(*arguments: str) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)
