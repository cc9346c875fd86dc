"""The durable queue: which chains run, over all processes of a database, and again after one of them was killed.

A chain's attempt is a workflow of DBOS with one step, the recipe. DBOS keeps it in the database, admits a bounded
number at a time, and starts again what a killed process left. What is rendered already is the store's affair.
"""

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer, SetWorkflowID

# A server of a later version has to go on with what an earlier one left, so this may not change with a release.
_APPLICATION_VERSION = "1"
_QUEUE = "chains"
# The default of one second would be most of a short chain's time.
_POLLING_SECONDS = 0.05

_run: Callable[[str], Awaitable[None]] | None = None


@DBOS.workflow(name="longtake.chain")
async def _chain(chain_id: str, attempt: int) -> None:
    """One attempt; ``attempt`` is there to be seen in DBOS's own tools."""
    assert _run is not None, "the queue was not opened"
    await DBOS.run_step_async({"name": f"attempt {attempt}"}, _run, chain_id)


class ChainQueue:
    """The queue of a database. There can be one in a process, since DBOS has one instance in a process."""

    def __init__(
        self, database_url: str, run: Callable[[str], Awaitable[None]], *, max_running: int, node: str
    ) -> None:
        self._config = DBOSConfig(
            name="longtake",
            system_database_url=database_url,
            application_version=_APPLICATION_VERSION,
            executor_id=node,
            serializer=DBOSPortableJSONSerializer(),
            # Below this it reports every attempt that a stopping server interrupts.
            log_level="ERROR",
            console_log_level="ERROR",
        )
        self._run = run
        self._max_running = max_running

    async def open(self) -> None:
        """Begin to run what waits, and what was interrupted, on the running event loop."""
        global _run
        assert _run is None, "a queue is open already"
        _run = self._run
        DBOS(config=self._config)
        DBOS.launch()
        await DBOS.register_queue_async(
            _QUEUE,
            global_concurrency=self._max_running,
            polling_interval_sec=_POLLING_SECONDS,
            on_conflict="always_update",
        )

    async def submit(self, chain_id: str, attempt: int) -> None:
        """Enqueue an attempt; nothing happens when it was enqueued before."""
        with SetWorkflowID(f"{chain_id}-{attempt}"):
            await DBOS.enqueue_workflow_async(_QUEUE, _chain, chain_id, attempt)

    async def lost(self, chain_id: str, attempt: int) -> bool:
        """Whether the attempt has ended for the queue, so that it would do nothing when it is submitted again."""
        status = await DBOS.get_workflow_status_async(f"{chain_id}-{attempt}")
        return status is not None and status.status not in ("PENDING", "ENQUEUED", "DELAYED")

    async def close(self) -> None:
        """Take nothing more. What runs stays pending in the database once its task is cancelled."""
        global _run
        DBOS.destroy()
        # DBOS had made its own executor, which is shut down now, the loop's: threads are needed to stop what is left.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(thread_name_prefix="stopping"))
        _run = None
