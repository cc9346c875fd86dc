"""A client that follows a chain over every restart of its server, with nothing but ``Last-Event-ID``."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import msgspec


@dataclass(frozen=True)
class Seen:
    """An event as it came: its number, its name, its data."""

    n: int
    name: str
    data: dict[str, Any]


@dataclass
class Follower:
    """Follows one chain at ``url`` (of its server, always the same) until its terminal event."""

    url: str
    chain_id: str
    seen: list[Seen] = field(default_factory=list)

    async def run(self) -> None:
        """Come back whenever the connection breaks, after the last event that came whole."""
        async with aiohttp.ClientSession() as session:
            while not (self.seen and self.seen[-1].name != "progress"):
                try:
                    await self._once(session)
                except aiohttp.ClientError:
                    await asyncio.sleep(0.05)

    async def _once(self, session: aiohttp.ClientSession) -> None:
        headers = {"Last-Event-ID": str(self.seen[-1].n)} if self.seen else {}
        async with session.get(f"{self.url}/api/chains/{self.chain_id}/events", headers=headers) as answer:
            answer.raise_for_status()
            rest = b""
            async for part in answer.content.iter_any():
                *blocks, rest = (rest + part).split(b"\n\n")
                for block in blocks:
                    lines = dict(line.split(": ", 1) for line in block.decode().split("\n"))
                    if "id" in lines:
                        data = msgspec.json.decode(lines["data"])
                        self.seen.append(Seen(int(lines["id"]), lines["event"], data))
