"""The list of conversations by length and by tokens, without sorting all of them."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("logs", "0009_search_index")]
    operations = [
        migrations.AddIndex(
            "conversation", models.Index(fields=["message_count", "updated_at"], name="logs_conver_message_69d31d_idx")
        ),
        migrations.AddIndex("conversation", models.Index(fields=["tokens", "updated_at"], name="logs_conver_tokens_02bb8c_idx")),
    ]
