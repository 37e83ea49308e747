"""An evaluation from its settings to its results: pictures, points, distances between sets, tables."""

import datetime
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from nlaic.errors import NlaicError
from nlaic.evaluate import fid, inception, metrics, results, viewer
from nlaic.evaluate.bd import bjontegaard
from nlaic.evaluate.codecs import MissingError, Spec, parse
from nlaic.evaluate.journal import Journal, Watch
from nlaic.evaluate.metrics import Metric
from nlaic.evaluate.places import check_out, find_pictures
from nlaic.evaluate.points import Picture, Point, PointTask, coder, entry_of, measure, settings_of
from nlaic.evaluate.provenance import machine, versions
from nlaic.evaluate.sets import Distances
from nlaic.evaluate.settings import Settings
from nlaic.evaluate.store import digest, read_pixels


class Evaluation:
    """One run: what it works on, and what went wrong on the way.

    Raises:
        NlaicError: for settings that make no sense.
    """

    def __init__(self, settings: Settings, watch: Watch) -> None:
        settings.check()
        self.settings, self.journal = settings, Journal(watch, settings.executor, settings.processes)

    def run(self) -> dict[str, Any]:
        """Measure everything and give the results, as `nlaic.evaluate.results` describes them.

        Raises:
            NlaicError: for settings that make no sense; a codec, metric or point that fails is in the results.
        """
        s = self.settings
        if s.anchor in s.codecs:
            bjontegaard()  # before hours of work
        specs = [parse(text) for text in dict.fromkeys(s.codecs)]
        chosen, of_sets = self.choose_metrics()
        pictures = self.pictures()
        shown = viewer.choose(pictures, s.viewer["pictures"])
        check_out(s.folder, pictures, s.force)
        specs = self.available(specs)
        self.check_sizes(pictures, chosen, of_sets)
        points = self.points(pictures, specs, chosen)
        if not points:
            raise NlaicError(f"no point could be measured: {self.journal.failures[0]['reason']}")
        same = self.common(pictures, points)
        rows = results.means(points, {picture.name: picture for picture in pictures})
        for metric in of_sets:
            Distances(metric, same, s.store, s.network_folder, self.journal).add_to(rows, points, s.rates)
        names = [metric.name for metric in chosen]
        higher = {metric.name: metric.higher_is_better for metric in chosen}
        if s.anchor not in {point.codec for point in points}:
            self.journal.warn(f"no BD-rate: the anchor {s.anchor!r} is not among the codecs measured")
        has_anchor = s.anchor in {point.codec for point in points}
        return self._facts(specs, pictures) | {
            "metrics": [*map(describe, chosen), *map(describe, of_sets)],
            "skipped": [asdict(skipped) for skipped in self.journal.skipped],
            "failures": self.journal.failures,
            "points": [asdict(point) for point in points],
            "means": rows,
            "at_rates": results.table_at_rates(rows, names, list(dict.fromkeys(s.rates))),
            "bd_rate": results.bd_table(points, rows, higher, s.anchor, s.bd_below) if has_anchor else None,
            "viewer": self.views(shown, specs, points),
            "warnings": self.journal.warnings,
        }

    def _facts(self, specs: Sequence[Spec], pictures: Sequence[Picture]) -> dict[str, Any]:
        """The part of the results that says what they are of."""
        s = self.settings
        return {
            "schema": results.SCHEMA,
            "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "config": asdict(s),
            "versions": versions(),
            "machine": machine(s.executor, s.processes),
            "seeds": {"kid": fid.KID_SEED},
            "data": {
                "root": str(s.data["root"]),
                "pictures": [{k: getattr(p, k) for k in ("name", "width", "height", "sha256")} for p in pictures],
                "pixels": sum(picture.pixels for picture in pictures),
            },
            "codecs": [
                {
                    "name": spec.text,
                    "label": spec.label,
                    "setting": spec.codec.setting,
                    "version": coder(spec.text).version,
                }
                for spec in specs
            ],
        }

    def pictures(self) -> list[Picture]:
        """The pictures of the set; one that cannot be read is a failure, and the rest go on."""
        root, (every, limit) = self.settings.root, (self.settings.data.get(key) for key in ("every", "limit"))
        files = find_pictures(root, without=(self.settings.folder, self.settings.store))[:: every or 1][:limit]
        self.journal.watch.phase("reading", len(files))
        found = []
        for path in files:
            name = path.relative_to(root).as_posix()
            try:
                picture = read_pixels(path)
            except (NlaicError, OSError) as error:
                self.journal.fail("", None, name, str(error))
            else:
                height, width = picture.shape[:2]
                found.append(Picture(name, path, width, height, digest(picture)))
            self.journal.watch.step()
        if not found:
            raise NlaicError(f"data.root={root}: none of its {len(files)} pictures can be read")
        return found

    def available(self, specs: Sequence[Spec]) -> list[Spec]:
        """The codecs that can be opened here."""
        opened = []
        for spec in specs:
            try:
                coder(spec.text)
            except MissingError as error:
                self.journal.skip("codec", spec.text, str(error))
            else:
                opened.append(spec)
        if not opened:
            raise NlaicError(f"none of the codecs can be had: {self.journal.skipped[-1].reason}")
        return opened

    def choose_metrics(self) -> tuple[list[Metric], list[fid.SetMetric]]:
        """Those of pictures and those of sets that can be had."""
        s = self.settings
        sets = {*fid.SET_METRICS, *fid.SHORT}
        known = [*metrics.METRICS, *metrics.SHORT, *sets]
        if unknown := [name for name in s.metrics if name not in known]:
            raise NlaicError(f"metrics: {unknown[0]!r} is none of {', '.join(dict.fromkeys(known))}")
        chosen, skipped = metrics.choose([name for name in s.metrics if name not in sets], s.network_folder)
        for one in skipped:
            self.journal.skip(one.kind, one.name, one.reason)
        of_sets: dict[str, fid.SetMetric] = {}
        for name in (full for short in s.metrics if short in sets for full in fid.SHORT.get(short, (short,))):
            for candidate in filter(None, (name, fid.STAND_INS.get(name))):
                if any(one.name == candidate for one in self.journal.skipped):
                    continue
                try:
                    inception.load(fid.SET_METRICS[candidate].dims, s.network_folder)
                except NlaicError as error:
                    self.journal.skip("metric", candidate, str(error))
                else:
                    of_sets[candidate] = fid.SET_METRICS[candidate]
                    break
        if s.metrics and not chosen and not of_sets:
            raise NlaicError(f"none of the metrics can be had: {self.journal.skipped[-1].reason}")
        return chosen, list(of_sets.values())

    def check_sizes(
        self, pictures: Sequence[Picture], chosen: Sequence[Metric], of_sets: Sequence[fid.SetMetric]
    ) -> None:
        """Warn of pictures too small for a metric, and of sets too small for one."""
        both: list[Metric | fid.SetMetric] = [*chosen, *of_sets]
        for metric in both:
            small = [p for p in pictures if min(p.width, p.height) < metric.smallest]
            if small:
                first = f"{small[0].name} is {small[0].width}x{small[0].height}"
                self.journal.warn(
                    f"{metric.name} needs sides from {metric.smallest}: {len(small)} of {len(pictures)} pictures are "
                    f"left out of it ({first})"
                )

    def points(self, pictures: Sequence[Picture], specs: Sequence[Spec], chosen: Sequence[Metric]) -> list[Point]:
        """All points that succeed, in the order of codecs, settings and pictures."""
        s = self.settings
        names = tuple(metric.name for metric in chosen)
        if unknown := set(s.settings) - {spec.text for spec in specs} - {one.name for one in self.journal.skipped}:
            raise NlaicError(f"settings: {sorted(unknown)[0]!r} is none of codecs={[spec.text for spec in specs]}")
        for spec in specs:
            spec.codec.check(s.settings.get(spec.text, ()))
        tasks = [
            PointTask(picture, spec.text, setting, names, s.store, s.network_folder)
            for picture in pictures
            for spec in specs
            for setting in dict.fromkeys(map(float, s.settings.get(spec.text) or settings_of(spec.text)))
        ]
        if known := sum(entry_of(task).read() is not None for task in tasks):
            self.journal.watch.note(f"{known} of {len(tasks)} files were made before, in {s.store}")
        done = [point for _, point in self.journal.run("points", measure, tasks)]
        for point in done:
            for name, reason in point.failed.items():
                self.journal.fail(point.codec, point.setting, point.picture, f"{name}: {reason}")
        order = {spec.text: number for number, spec in enumerate(specs)}
        return sorted(done, key=lambda p: (order[p.codec], p.setting, p.picture))

    def common(self, pictures: Sequence[Picture], points: Sequence[Point]) -> list[Picture]:
        """The pictures that means are of; warns where some are not among them."""
        names = results.common(points)
        if left := [picture.name for picture in pictures if picture.name not in names]:
            self.journal.warn(
                f"means, curves and distances are of {len(names)} of {len(pictures)} pictures: at some setting of some "
                f"codec the others failed ({', '.join(left[:3])}{', ...' if len(left) > 3 else ''})"
            )
        return [picture for picture in pictures if picture.name in names]

    def views(self, chosen: Sequence[Picture], specs: Sequence[Spec], points: Sequence[Point]) -> list[Any]:
        """Pictures for the report, at matched rates."""
        s, shown = self.settings, []
        bpp = float(s.viewer["bpp"])
        tasks = [
            viewer.ViewTask(picture, spec.text, bpp, tuple(p for p in points if _is(p, spec.text, picture)), s.store)
            for picture in chosen
            for spec in specs
        ]
        entries = dict(self.journal.run("viewer", viewer.view, tasks))
        for picture in chosen:
            mine = [task for task in tasks if task.picture == picture]
            shown.append(
                {
                    "picture": picture.name,
                    "bpp": bpp,
                    "image": viewer.original(picture),
                    "entries": [entries[task] for task in mine if entries.get(task)],
                    "not_reached": [task.codec for task in mine if task in entries and not entries[task]],
                    "failed": [task.codec for task in mine if task not in entries],
                }
            )
        return shown


def _is(point: Point, codec: str, picture: Picture) -> bool:
    return point.codec == codec and point.picture == picture.name


def describe(metric: Metric | fid.SetMetric) -> dict[str, Any]:
    """For the results."""
    shared = {key: getattr(metric, key) for key in ("name", "label", "higher_is_better", "stand_in_for")}
    return shared | {"of_set": isinstance(metric, fid.SetMetric)}
