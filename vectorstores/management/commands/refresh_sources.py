import json
import os
import sys
import time
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from puffer.runtime import claim
from puffer.runtime import due as is_due
from vectorstores.management.import_command import INTERRUPTED, NOTHING_DONE, SOME_REFUSED
from vectorstores.models import Source
from vectorstores.refresh.run import LEASE_SECONDS
from vectorstores.refresh.worker import work_on

POLL_SECONDS = 0.5  # while a worker runs the source
COUNTS = ("new", "changed", "unchanged", "left_out", "failed", "removed")


class Command(BaseCommand):
    help = (
        "Refresh the sources of collections: store new and changed pages, and remove those that have vanished. Sources "
        "are added in the admin. A worker refreshes them on their schedule; with --due, cron can do that instead. "
        "Exit codes: 0 all sources are up to date, 1 some pages or sources failed, 2 no source could be refreshed, 130 "
        "interrupted."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--source", type=int, action="append", default=[], metavar="ID", help="only this source; may be repeated"
        )
        parser.add_argument("--due", action="store_true", help="only sources whose schedule says so")
        parser.add_argument("--json", action="store_true", help="print the results as JSON")

    def handle(self, *, source: Sequence[int], due: bool, **options: Any) -> None:
        try:
            results = [self.refresh(one) for one in self.chosen(source, due)]
        except KeyboardInterrupt:
            self.stderr.write("Interrupted. A worker, or the same command again, continues.")
            sys.stdout.flush()
            os._exit(INTERRUPTED)  # do not wait for a page that never arrives
        if options["json"]:
            self.stdout.write(json.dumps(results, ensure_ascii=False))
        elif not results:
            self.stdout.write("No source is due." if due else "There are no sources. Add them in the admin.")
        else:
            for result in results:
                counts = ", ".join(f"{result[name]} {name.replace('_', ' ')}" for name in COUNTS if result[name])
                self.stdout.write(f"{result['address']}: {counts or 'no pages'}.")
        failed = [result for result in results if result["error"]]
        if failed and len(failed) == len(results):
            sys.exit(NOTHING_DONE)
        if failed or any(result["failed"] for result in results):
            sys.exit(SOME_REFUSED)

    def chosen(self, ids: Sequence[int], only_due: bool) -> list[Source]:
        """Return the sources to refresh, after making them due. Raise CommandError."""
        approved = Source.objects.filter(is_approved=True).order_by("pk")
        sources = list(approved.filter(pk__in=ids) if ids else approved)
        if missing := set(ids) - {source.pk for source in sources}:
            listed = ", ".join(map(str, sorted(missing)))
            raise CommandError(
                f"There is no source {listed} whose pages are approved. The admin lists the sources.",
                returncode=NOTHING_DONE,
            )
        if only_due:
            return list(Source.objects.filter(is_due(), pk__in=[source.pk for source in sources]).order_by("pk"))
        for source in sources:
            source.refresh()
        return sources

    def refresh(self, source: Source) -> dict[str, Any]:
        """Refresh the source, or wait for the worker that does, and return the result."""
        shown = ""
        while True:
            claimed = claim(Source.objects.ready().filter(pk=source.pk), LEASE_SECONDS)
            if claimed:
                work_on(claimed)
            try:
                source.refresh_from_db()
            except Source.DoesNotExist:
                return self.result(source, "It was deleted.")
            if not source.is_busy:
                return self.result(source, source.last_error)
            if source.last_error not in ("", shown):
                shown = source.last_error
                self.stderr.write(f"{source}: {shown} It is tried again.")
            if not claimed:
                time.sleep(POLL_SECONDS)

    def result(self, source: Source, error: str) -> dict[str, Any]:
        counts = {name: getattr(source, name) for name in COUNTS}
        if source.has_held_removals:
            self.stderr.write(f"{source}: many pages have vanished. Confirm their removal in the admin.")
        if error:
            self.stderr.write(f"{source}: {error}")
        return {
            "id": source.pk,
            "address": source.address,
            "collection": source.target,
            **counts,
            "held_removals": source.has_held_removals,
            "error": error,
        }
