"""``python -m longtake``: the command line."""

from longtake.cli import main

if __name__ == "__main__":
    main()
