"""The command line under the name that needs nothing installed: ``python -m flows``."""

from flows.cli.main import USER_ERROR, main, run

__all__ = ["USER_ERROR", "main"]

if __name__ == "__main__":
    run()
