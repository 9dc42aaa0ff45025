"""The command line under the name that needs nothing installed: ``python -m flows``."""

from editcollapse.cli.mistakes import USER_ERROR
from flows.cli.main import main, run

__all__ = ["USER_ERROR", "main"]

if __name__ == "__main__":
    run()
