"""What happens during an evaluation and does not end it: failures, things skipped, warnings; and who looks on."""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from nlaic.evaluate.metrics import Skipped
from nlaic.evaluate.outcomes import outcomes


class Watch(Protocol):
    """Who looks on."""

    def phase(self, name: str, total: int) -> None:
        """So many steps of something begin."""

    def step(self) -> None:
        """One is done."""

    def note(self, text: str) -> None:
        """Something to know."""


class Journal:
    """Runs tasks and keeps what went wrong.

    Args:
        watch: is told at once.
        executor: `local` or `ray`.
        processes: of `local`.
    """

    def __init__(self, watch: Watch, executor: str, processes: int) -> None:
        self.watch, self.executor, self.processes = watch, executor, processes
        self.failures: list[dict[str, Any]] = []
        self.skipped: list[Skipped] = []
        self.warnings: list[str] = []

    def run(self, phase: str, function: Callable[[Any], Any], tasks: Sequence[Any]) -> list[tuple[Any, Any]]:
        """Tasks and results of those that succeed; the others are failures."""
        self.watch.phase(phase, len(tasks))
        done = []
        for task, outcome in outcomes(function, tasks, self.executor, self.processes):
            self.watch.step()
            if outcome.reason:
                point = getattr(task, "point", None) or task
                self.fail(
                    getattr(point, "codec", ""), getattr(point, "setting", None), task.picture.name, outcome.reason
                )
            else:
                done.append((task, outcome.result))
        return done

    def fail(self, codec: str, setting: float | None, picture: str, reason: str) -> None:
        """A picture that did not work."""
        self.failures.append({"codec": codec, "setting": setting, "picture": picture, "reason": reason})
        place = " ".join(filter(None, (codec, "" if setting is None else f"{setting:g}", picture)))
        self.watch.note(f"failed: {place}: {reason}")

    def skip(self, kind: str, name: str, reason: str) -> None:
        """Something asked for that cannot be had."""
        self.skipped.append(Skipped(kind, name, reason))
        self.watch.note(f"skipped: {kind} {name}: {reason}")

    def warn(self, text: str) -> None:
        """Something that makes a number less than it seems."""
        self.warnings.append(text)
        self.watch.note(f"warning: {text}")
