"""Not here yet."""
from cyclopts import App


def register(app: App) -> None:
    """Nothing."""
