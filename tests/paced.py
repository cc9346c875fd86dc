"""Real models with time between their steps, and failures on demand: so that a test can look at what goes on."""

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing

from msgspec.structs import replace

from longtake_facade.backend import BackendError, Chunk, ClipEnd, ClipJob, Latents, Step
from longtake_facade.triton import TritonBackend, connect
from longtake_stages.contract import Capabilities


class PacedModels:
    """A backend on a Triton server, connected in the event loop of whoever renders first.

    ``step_seconds`` is added after every step, ``failures`` are raised for a prompt when it is denoised, ``renders``
    counts the clips that were denoised.
    """

    def __init__(self, address: str, step_seconds: float) -> None:
        self._address = address
        self._opened: TritonBackend | None = None
        # In a thread: an open browser keeps a loop running in this one.
        with ThreadPoolExecutor(1) as thread:
            capabilities, self.instances = thread.submit(lambda: asyncio.run(_facts(address))).result()
        # What the page proposes: short clips, so that a test does not wait for long ones.
        self.capabilities = replace(capabilities, frames_recommended=25)
        self.step_seconds = step_seconds
        self.failures: dict[str, BackendError] = {}
        self.renders = 0

    async def _models(self) -> TritonBackend:
        if self._opened is None:
            self._opened = await connect(self._address)
        return self._opened

    async def encode_prompt(self, prompt: str, negative_prompt: str) -> bytes:
        return await (await self._models()).encode_prompt(prompt, negative_prompt)

    async def denoise(self, job: ClipJob, context: bytes) -> AsyncGenerator[Step | Latents, None]:
        if job.prompt in self.failures:
            raise self.failures[job.prompt]
        async with aclosing((await self._models()).denoise(job, context)) as responses:
            async for response in responses:
                if isinstance(response, Latents):
                    self.renders += 1
                else:
                    await asyncio.sleep(self.step_seconds)
                yield response

    async def decode(self, job: ClipJob, latents: bytes) -> AsyncGenerator[Chunk | ClipEnd, None]:
        async with aclosing((await self._models()).decode(job, latents)) as responses:
            async for response in responses:
                yield response

    async def canary(self) -> None:
        await (await self._models()).canary()

    async def revive(self) -> None:
        await (await self._models()).revive()

    async def close(self) -> None:
        if self._opened is not None:
            await self._opened.close()


async def _facts(address: str) -> tuple[Capabilities, int]:
    opened = await connect(address)
    await opened.close()
    return opened.capabilities, opened.instances
