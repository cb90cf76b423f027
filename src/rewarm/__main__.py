"""``python -m rewarm``: the command line, also where the console script is not on the path."""

from rewarm.cli.main import main

if __name__ == "__main__":
    main()
