"""A thin, synchronous client of the HTTP API, for services, scripts and notebooks.

    from tailrace.client import Client

    client = Client("https://tailrace.example", token_file="token")
    print(client.status()["sentence"])
    client.predict("phishing", [{"https": 1, "country": "de"}])
    client.predictions("phishing", limit=500).to_pandas()

It speaks HTTP and nothing else; a model is rebuilt from a snapshot only after a key that you trust was found to have
signed it. `to_pandas` and `plot` need the extra `client`: `pip install ".[client]"` in the folder of
Tailrace.
"""

from __future__ import annotations

from tailrace.client.client import Client, Event
from tailrace.client.connection import ApiError, Unreachable
from tailrace.client.tables import Predictions, Quality
from tailrace.domain.errors import SettingsError, SnapshotRefused

__all__ = [
    "ApiError",
    "Client",
    "Event",
    "Predictions",
    "Quality",
    "SettingsError",
    "SnapshotRefused",
    "Unreachable",
]
