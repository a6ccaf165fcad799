"""``python -m ridgepoint`` is the ``ridgepoint`` command."""

from ridgepoint.cli import main

if __name__ == "__main__":
    main()
