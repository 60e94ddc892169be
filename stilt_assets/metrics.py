"""
What does Prometheus read? A page of numbers: each with a name, a unit and a sentence.

The page is made by looks that follow one another, and served as the last one left it: whoever scrapes costs nothing.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from stilt_assets.errors import StiltAssetsError, UsageError
from stilt_assets.tally import Count, Tally

Labels = tuple[str, ...]
_PREFIX = "stilt_assets"


@dataclass(frozen=True)
class Metric:
    """One number, or one for each value of some labels."""

    name: str  # without the prefix of all names
    told: str  # a sentence
    samples: Mapping[Labels, float]
    labels: Labels = ()
    kind: str = "gauge"  # or counter, whose name ends in _total on the page

    @classmethod
    def of(cls, name: str, told: str, value: float) -> "Metric":
        """One number."""
        return cls(name, told, {(): value})

    @classmethod
    def by(cls, label: str, name: str, told: str, values: Mapping[str, float]) -> "Metric":
        """A number for each value of one label."""
        return cls(name, told, {(key,): value for key, value in values.items()}, (label,))


def metrics_of(count: Count) -> list[Metric]:
    """All that was counted of a store."""
    recent = {key: dollars for key, (_, dollars) in count.recent.items() if dollars is not None}
    return [
        Metric.by("state", "scenes", "Scenes by how far they are.", count.states),
        Metric.of("scenes_with_gaps", "Done scenes whose Jacobian has rows of failed pixels.", count.with_gaps),
        Metric.of("scenes_unread", "Scenes that no look has read yet; all other numbers lack them.", count.unread),
        Metric.of("scenes_unreadable", "Scenes whose scene.json is missing or damaged.", count.unreadable),
        Metric.of("oldest_record_age_seconds", "Age of the oldest record that is counted.", count.oldest_record),
        Metric.by("outcome", "pixels", "Pixels of all scenes by their last outcome.", count.pixels),
        Metric.by("reason", "failed_pixels", "Pixels whose last outcome is a failure, by its reason.", count.failed),
        Metric.by("reason", "dropped_pixels", "Pixels that are not run, by what left them out.", count.dropped),
        Metric.of("pixels_per_second", "Pixels that got an outcome in the last hour, per second.", count.rate),
        Metric.of("worker_seconds", "Time of workers that current outcomes tell, all scenes together.", count.seconds),
        Metric.by(
            "part", "cost_dollars", "Cost of all scenes so far at the settings' prices, downloads aside.", count.dollars
        ),
        Metric.by(
            "scene",
            "recent_scene_worker_seconds",
            "Time of workers of each of the scenes that closed last.",
            {key: seconds for key, (seconds, _) in count.recent.items()},
        ),
        Metric.by("scene", "recent_scene_cost_dollars", "Cost of each of the scenes that closed last.", recent),
        Metric.by("stage", "store_bytes", "Size of all results as their records tell it, by stage.", count.bytes),
        Metric.by(
            "state",
            "retrievals_waiting",
            "Retrievals that are not done: files that nobody has read, and scenes by how far they are.",
            {state: each.number for state, each in count.waiting.items()},
        ),
        Metric.by(
            "state",
            "oldest_retrieval_age_seconds",
            "Time since the oldest of these retrievals arrived.",
            {state: each.oldest for state, each in count.waiting.items()},
        ),
    ]


# ---- the page


def _client() -> Any:
    try:
        import prometheus_client
    except ImportError:
        raise UsageError("metrics need prometheus-client: pip install 'stilt-assets[metrics]'") from None
    return prometheus_client


def page(metrics: Sequence[Metric]) -> str:
    """Metrics in Prometheus' text format. UsageError if its library is not installed."""
    client = _client()
    families = [_family(client, each) for each in metrics if each.samples]
    registry = client.CollectorRegistry()
    registry.register(_Found(lambda: families))
    return client.generate_latest(registry).decode()


def _family(client: Any, metric: Metric) -> Any:
    kinds = {"gauge": client.metrics_core.GaugeMetricFamily, "counter": client.metrics_core.CounterMetricFamily}
    family = kinds[metric.kind](f"{_PREFIX}_{metric.name}", metric.told, labels=metric.labels)
    for labels, value in sorted(metric.samples.items()):
        family.add_metric(labels, value)
    return family


@dataclass(frozen=True)
class _Found:
    """What a registry of prometheus-client takes."""

    collect: Callable[[], Sequence[Any]]


# ---- looks

Seen = tuple[Sequence[Metric], Collection[str]]  # metrics, and the scenes whose runs began or ended lately


@dataclass
class Watch:
    """Looks at a store and at whatever queues its scenes, one after the other."""

    tally: Tally
    queue: Callable[[float], Seen] = lambda _: ((), ())
    metrics: Sequence[Metric] = ()
    troubles: list[str] = field(default_factory=list)  # of the last look, a line each
    unread: int = 0
    _looks: dict[Labels, float] = field(default_factory=dict)

    def look(self, now: float) -> None:
        """Look once; `now` is in s since 1970. What cannot be had is left out and told in `troubles`."""
        begun, self.troubles = monotonic(), []
        queued, lately = self._tried("queue", lambda: self.queue(now), ((), ()))
        count = self._tried("store", lambda: self.tally.look(now, lately), None)
        self.unread = count.unread if count else 0
        self.metrics = [
            *(metrics_of(count) if count else ()),
            *queued,
            Metric("looks", "Looks by what they were at and how they ended.", self._looks, ("at", "ended"), "counter"),
            Metric.of("last_look_timestamp_seconds", "When the last look began, since 1970.", now),
            Metric.of("last_look_duration_seconds", "How long the last look took.", monotonic() - begun),
        ]

    def _tried(self, what: str, act: Callable[[], Any], otherwise: Any) -> Any:
        for ended in ("done", "failed"):
            self._looks.setdefault((what, ended), 0)
        try:
            found = act()
        except StiltAssetsError as error:
            self.troubles.append(str(error))
            self._looks[what, "failed"] += 1
            return otherwise
        self._looks[what, "done"] += 1
        return found

    def serve(self, host: str, port: int) -> int:
        """Serve the last look's page from a thread of its own; the port. UsageError if that cannot be done."""
        client = _client()
        registry = client.CollectorRegistry()
        registry.register(_Found(lambda: [_family(client, each) for each in self.metrics if each.samples]))
        try:
            server, _ = client.start_http_server(port, host, registry)
        except OSError as error:
            raise UsageError(f"nothing can listen at {host}:{port}: {error.strerror or error}") from None
        return server.server_port
