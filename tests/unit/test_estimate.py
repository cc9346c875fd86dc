"""The estimate of GPU memory."""

import msgspec

from chains import chain, stage
from longtake.wire import ChainRequest, VramEstimate
from longtake_facade.estimate import vram_estimate
from longtake_facade.normalise import normalise
from longtake_stages.contract import Capabilities, Vram
from served import GIB, ON_GPU, TINY


def estimate(request: ChainRequest, served: Capabilities = ON_GPU) -> VramEstimate | None:
    return vram_estimate(normalise(request, served, draw_seed=lambda: 1).script, served)


def test_the_largest_stage_decides() -> None:
    """Stages are rendered one after the other on a GPU."""
    expected = 40 * GIB + 100 * 1216 * 704 * 97
    for request in (chain(stage("a", 97)), chain(stage("a", 25), stage("b", 97), stage("c", 17))):
        assert estimate(request) == VramEstimate(worst_case_bytes=expected, fits=True)


def test_a_smaller_size_needs_less() -> None:
    """What does not depend on the size is counted once."""
    small = estimate(chain(stage("a", 25), width=64, height=64))
    assert small == VramEstimate(worst_case_bytes=40 * GIB + 100 * 64 * 64 * 25, fits=True)


def test_what_is_more_than_the_device_has_does_not_fit() -> None:
    """To the byte."""
    need = 40 * GIB + 100 * 1216 * 704 * 97
    for device_bytes, fits in ((need, True), (need - 1, False)):
        served = msgspec.structs.replace(ON_GPU, vram=Vram(40 * GIB, 100.0, device_bytes))
        found = estimate(chain(stage("a", 97)), served)
        assert found is not None
        assert found.fits is fits


def test_there_is_none_on_the_cpu() -> None:
    """Nothing has to fit."""
    assert estimate(chain(stage("a")), TINY) is None
