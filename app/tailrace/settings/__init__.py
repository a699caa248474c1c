"""tailrace.toml and the environment, read into one frozen tree.

`load` reads both, the environment wins, and reports every problem at once. `field_table` lists every setting with its
type, default and one sentence. The rest of Tailrace gets plain values or domain types out of the tree.
"""

from __future__ import annotations

from tailrace.settings.addresses import free_port, parse_host_port
from tailrace.settings.checks import LOOP_TOPICS
from tailrace.settings.durations import DurationMs, parse_duration, show_duration
from tailrace.settings.environment import CONFIG_VARIABLE
from tailrace.settings.functions import importer
from tailrace.settings.load import DEFAULT_FILE, ModelCheck, find_file, load, load_text
from tailrace.settings.table import FieldRow, field_table
from tailrace.settings.tls_files import tls_problems
from tailrace.settings.tree import (
    ApiSettings,
    ChampionSettings,
    EventsSettings,
    FeatureSettings,
    KafkaSettings,
    KeySettings,
    LabelsSettings,
    LoopSettings,
    Settings,
    SnapshotSettings,
)

__all__ = [
    "CONFIG_VARIABLE",
    "DEFAULT_FILE",
    "LOOP_TOPICS",
    "ApiSettings",
    "ChampionSettings",
    "DurationMs",
    "EventsSettings",
    "FeatureSettings",
    "FieldRow",
    "KafkaSettings",
    "KeySettings",
    "LabelsSettings",
    "LoopSettings",
    "ModelCheck",
    "Settings",
    "SnapshotSettings",
    "field_table",
    "find_file",
    "free_port",
    "importer",
    "load",
    "load_text",
    "parse_duration",
    "parse_host_port",
    "show_duration",
    "tls_problems",
]
