"""The table of an evaluation: rows of a score and its goal, and what was missed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

_UNITS: Final = {"share": "{:.1%}", "ratio": "{:.2f}", "pixels": "{:.2f} px", "difference": "{:.4f}"}


@dataclass(frozen=True)
class Row:
    """One figure.

    ``group`` and ``measure`` name it; ``count`` is how many clips (or joins) it is a figure of; ``goal`` is ``None``
    where there is none. ``unit``: ``share`` 0..1, ``ratio``, ``pixels``, ``difference`` (mean of 0..1), or as printed.
    """

    group: str
    measure: str
    score: float
    count: int
    goal: float | None = None
    better: Literal["higher", "lower"] = "higher"
    unit: str = "share"

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; ``None`` where there is none. What was measured on nothing reaches none."""
        if self.goal is None:
            return None
        if not self.count:
            return False
        return self.score >= self.goal if self.better == "higher" else self.score <= self.goal

    def shown(self, value: float) -> str:
        """``value`` with its unit."""
        return _UNITS.get(self.unit, "{:.2f} " + self.unit).format(value)

    def cells(self) -> tuple[str, str, str, str, str, str]:
        """Group, measure, score, goal, count and whether it is met, as the tables show them."""
        goal = "" if self.goal is None else ("≥ " if self.better == "higher" else "≤ ") + self.shown(self.goal)
        met = {None: "", True: "yes", False: "no"}[self.met]
        return self.group, self.measure, self.shown(self.score) if self.count else "", goal, str(self.count), met


@dataclass(frozen=True)
class Miss:
    """A clip that was not what its caption says: what it shows, in the words of a measure."""

    group: str
    caption: str
    measured: str


@dataclass
class Results:
    """All figures of an evaluation, in the order of their measuring."""

    facts: dict[str, Any] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)
    misses: list[Miss] = field(default_factory=list)

    def share(self, group: str, measure: str, right: Sequence[bool], goal: float | None = None) -> float:
        """Add the share of ``right`` and give it; 0 of nothing."""
        score = sum(right) / len(right) if right else 0.0
        self.rows.append(Row(group, measure, score, len(right), goal))
        return score

    def as_json(self) -> dict[str, Any]:
        """Plain values, each row with ``met``."""
        return {
            "facts": self.facts,
            "rows": [{**asdict(row), "met": row.met} for row in self.rows],
            "misses": [asdict(miss) for miss in self.misses],
        }


def rows_of(results: dict[str, Any]) -> list[Row]:
    """The rows of :meth:`Results.as_json`."""
    return [Row(**{name: value for name, value in row.items() if name != "met"}) for row in results["rows"]]
