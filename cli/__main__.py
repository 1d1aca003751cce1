"""`python -m echolung.cli` is `echolung`."""

from echolung.cli.app import main

if __name__ == "__main__":
    main()
