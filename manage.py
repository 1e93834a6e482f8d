#!/usr/bin/env python
"""Django's command line of the governance server: `./manage.py help` lists the commands."""

import os
import sys

from django.core.exceptions import ImproperlyConfigured
from django.core.management import execute_from_command_line
from django.db import DatabaseError

NOT_SET_UP = 3  # 1 means that a command refused, or that a review found something

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "governance_config.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(print(f"Wrong settings: {error}", file=sys.stderr) or NOT_SET_UP)
    except DatabaseError as error:
        sys.exit(print(f"The database does not answer: {error}", file=sys.stderr) or NOT_SET_UP)
