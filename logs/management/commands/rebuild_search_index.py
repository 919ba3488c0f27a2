import sys
from typing import Any

from django.core.management.base import BaseCommand
from tqdm import tqdm

from logs.models import Conversation, Message
from logs.search.indexer import rebuild
from puffer.text import counted


class Command(BaseCommand):
    help = (
        "Index all conversations again for text search, after rows were written by other means or PostgreSQL got the "
        "extension pg_trgm. The server may run meanwhile; searches are slower."
    )

    def handle(self, **options: Any) -> None:
        count = Message.objects.count() + Conversation.objects.count()
        with tqdm(total=count, unit=" rows", unit_scale=True, disable=None, file=sys.stderr) as bar:
            step = ""
            for step_now, done in rebuild():
                if step_now != step:
                    step = step_now
                    bar.reset()
                    bar.set_description(step)
                bar.update(done - bar.n)
        self.stdout.write(self.style.SUCCESS(f"Indexed {counted(count, 'row')}."))
