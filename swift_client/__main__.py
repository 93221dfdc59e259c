"""``python -m swift_client``: the command."""

from swift_client.cli import main

if __name__ == "__main__":
    main()
