"""The models' own counters in Triton's metrics endpoint."""

from typing import Any, Final, Self

from longtake_stages.contract import RENDERS_METRIC, STEPS_METRIC

_STEPS_HELP: Final = "Denoising steps computed, of renders that were cancelled too; canaries are not counted"
_RENDERS_HELP: Final = "Clips denoised to the end; canaries are not counted"


class Counter:
    """A Prometheus counter. Its family lives as long as the counter: Triton forgets the one with the other."""

    def __init__(self, family: Any, labels: dict[str, str]) -> None:
        self._family = family
        self._metric = family.Metric(labels=labels)

    def add_one(self) -> None:
        """Count one."""
        self._metric.increment(1)


class DenoiserCounters:
    """What a denoiser's instance has done."""

    def __init__(self, steps: Counter, renders: Counter) -> None:
        self.steps = steps
        self.renders = renders

    @classmethod
    def register(cls, pb_utils: Any, instance: str) -> Self:
        """Create both counters, labelled with the model instance's name."""
        return cls(
            _counter(pb_utils, STEPS_METRIC, _STEPS_HELP, instance),
            _counter(pb_utils, RENDERS_METRIC, _RENDERS_HELP, instance),
        )


def _counter(pb_utils: Any, name: str, description: str, instance: str) -> Counter:
    family = pb_utils.MetricFamily(name=name, description=description, kind=pb_utils.MetricFamily.COUNTER)
    return Counter(family, {"instance": instance})
