"""A job model and the function that runs its jobs, for the tests of the worker."""

import os
import time

from django.db import models, transaction

from puffer.runtime.jobs import Job, claim

LEASE_SECONDS = 1.5
STEPS = 3


class Piece(Job):
    """A job of several steps that last `step_seconds` each."""

    step_seconds = models.FloatField(default=0)
    fails = models.BooleanField(default=False)

    class Meta(Job.Meta):
        app_label = "work"


class Result(models.Model):
    """The result of a finished piece. Two results of one piece mean that it ran twice."""

    piece_id = models.IntegerField()
    process_id = models.IntegerField()

    class Meta:
        app_label = "work"

    def __str__(self) -> str:
        return f"{self.piece_id} by {self.process_id}"


def run_due() -> bool:
    piece = claim(Piece.objects.all(), LEASE_SECONDS)
    if piece is None:
        return False
    if piece.fails:
        raise RuntimeError("this piece cannot be done")
    for _ in range(STEPS):
        time.sleep(piece.step_seconds)
        piece.extend(LEASE_SECONDS)
    with transaction.atomic():
        Result.objects.create(piece_id=piece.pk, process_id=os.getpid())
        piece.finish()
    return True
