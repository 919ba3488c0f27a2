import sys
from typing import Any

from django.core.management.base import BaseCommand
from tqdm import tqdm

from logs.models import Conversation, Message
from logs.search.indexer import rebuild
from puffer.text import counted


class Command(BaseCommand):
    help = (
        "Index all conversations again for text search, after other programs wrote to the database or the extension "
        "pg_trgm was added to PostgreSQL. The server can keep running; searches are slower meanwhile."
    )

    def handle(self, **options: Any) -> None:
        count = Message.objects.count() + Conversation.objects.count()
        with tqdm(total=count, unit=" rows", unit_scale=True, disable=None, file=sys.stderr) as bar:
            step = ""
            for current_step, done in rebuild():
                if current_step != step:
                    step = current_step
                    bar.reset()
                    bar.set_description(step)
                bar.update(done - bar.n)
        self.stdout.write(self.style.SUCCESS(f"Indexed {counted(count, 'row')}."))
