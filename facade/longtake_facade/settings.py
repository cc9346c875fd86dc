"""The settings of a server: command line first, then the environment (``LONGTAKE_*``), read once and frozen."""

import ipaddress
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

LOCAL_HOSTS = ("localhost", "127.0.0.1", "[::1]")
Names = Annotated[tuple[str, ...], NoDecode]


class Settings(BaseSettings):
    """How a server runs. Values that cannot be meant are refused when it starts, with the name of the setting."""

    model_config = SettingsConfigDict(env_prefix="LONGTAKE_", frozen=True, extra="ignore")

    host: str = "127.0.0.1"
    """Address to listen on. Anything but loopback needs ``insecure_no_auth``."""
    port: int = Field(default=8188, ge=0, le=65535)
    """0: a free one."""
    data: Path = Path(".longtake")
    """Folder of everything that is kept: database, stages, videos."""
    database: str | None = None
    """SQLAlchemy URL; None: SQLite in ``data``."""
    triton: str | None = None
    """``host:port`` of a server's gRPC endpoint; None: an embedded one."""
    checkpoint: str | None = None
    """Diffusers folder or hub id for the embedded server; None: the tiny one."""
    instances: int = Field(default=1, ge=1, le=64)
    """Of each model in the embedded server."""
    max_running: int = Field(default=4, ge=1, le=1000)
    """Chains that run at the same time, over all servers of the database."""
    max_queued: int = Field(default=64, ge=0, le=100_000)
    """Chains that may wait beside those that run; one more is answered 429."""
    retention_days: float = Field(default=7.0, gt=0)
    """How long an ended chain is kept."""
    node: str = Field(default="longtake", pattern=r"^[A-Za-z0-9._-]{1,64}$")
    """Names this server among those of its database; the same after a restart, or nobody goes on with what it left."""
    start_timeout: float = Field(default=180.0, gt=0)
    """Seconds until every model has to have answered."""
    insecure_no_auth: bool = False
    """Listen beyond loopback although nobody is asked who they are."""
    allow_host: Names = ()
    """Host names requests may carry, beside those of loopback and ``host`` itself."""
    cors_origin: Names = ()
    """Origins whose pages may call this server from a browser."""

    @field_validator("allow_host", "cors_origin", mode="before")
    @classmethod
    def _separated_by_commas(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        return tuple(name.strip() for name in value.split(",") if name.strip())

    @model_validator(mode="after")
    def _loopback_unless_told(self) -> Self:
        if not self.insecure_no_auth and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host} is reachable by others and this server asks nobody who they are; "
                "listen on 127.0.0.1 (behind a proxy that does), or say --insecure-no-auth"
            )
        return self

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL of the database."""
        return self.database or f"sqlite:///{(self.data / 'longtake.db').absolute()}"

    @property
    def hosts(self) -> frozenset[str]:
        """Names that a request's Host header may carry (without port)."""
        own = f"[{self.host}]" if ":" in self.host else self.host
        return frozenset(name.lower() for name in (*LOCAL_HOSTS, own, *self.allow_host))


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
