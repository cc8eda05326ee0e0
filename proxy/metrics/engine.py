"""What was counted of a cluster's engine, by all certifiers since this process began. Pure."""

from __future__ import annotations

from acme_client.storage.etcd.figures import ENGINE_BUCKETS, EngineFigures


def nothing() -> EngineFigures:
    """Return figures of which nothing has been counted."""
    buckets = [0] * (len(ENGINE_BUCKETS) + 1)
    return {"seconds": buckets, "seconds_sum": 0.0, "fenced": 0, "conflicts": 0, "reloads": {}}


class EngineCounts:
    """Each certifier counts from zero, and a counter must not go back."""

    def __init__(self) -> None:
        self._before = nothing()  # by those that have ended
        self._last: EngineFigures | None = None

    def reported(self, figures: EngineFigures) -> None:
        """Keep what the certifier that runs has counted so far. Raises ValueError for a histogram
        that cannot be added to ours."""
        if len(figures["seconds"]) != len(ENGINE_BUCKETS) + 1:
            raise ValueError(f"{len(figures['seconds'])} buckets of the engine's seconds")
        self._last = figures

    def certifier_ended(self) -> None:
        """Keep what the certifier has counted: the next one counts from zero."""
        self._before, self._last = self.total(), None

    def total(self) -> EngineFigures:
        """Add up all certifiers."""
        one, other = self._before, self._last or nothing()
        reasons = sorted(one["reloads"].keys() | other["reloads"].keys())
        return {
            "seconds": [a + b for a, b in zip(one["seconds"], other["seconds"], strict=True)],
            "seconds_sum": one["seconds_sum"] + other["seconds_sum"],
            "fenced": one["fenced"] + other["fenced"],
            "conflicts": one["conflicts"] + other["conflicts"],
            "reloads": {
                why: one["reloads"].get(why, 0) + other["reloads"].get(why, 0) for why in reasons
            },
        }
