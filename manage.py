#!/usr/bin/env python
"""Django's command line for puffer."""

import os
import sys

from django.core.management import execute_from_command_line

FOR_OTHER_USERS = ("collectstatic", "makemessages", "makemigrations")  # what these write is meant to be read by others


def main() -> None:
    if sys.argv[1:2] and sys.argv[1] not in FOR_OTHER_USERS:
        os.umask(0o077)  # the database, stored images and exports contain secrets and personal data
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "puffer.settings")
    if sys.argv[1:2] == ["quickstart"]:
        from puffer.first_start import write_env_file

        write_env_file()  # before the settings are read: they refuse to load without a SECRET_KEY
    try:
        execute_from_command_line(sys.argv)
    except Exception as error:
        from puffer.runtime import is_disk_full

        if not is_disk_full(error):
            raise
        sys.exit("The disk of the database is full. Free some space, then run the command again.")


if __name__ == "__main__":
    main()
