"""A broker that answers nobody, and whose connections stay open: models are asked as before."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import urllib3
from tests.log_forms import LogForm
from tests.scenarios.api_ground import served
from tests.scenarios.harness import now_ms, pairs, until

HANGS_FOR_S = 13.0
EVERY_S = 0.1


async def test_who_polls_the_status_of_a_log_that_hangs_takes_no_predictions_from_others(
    own_broker: Any, tmp_path: Path
):
    form = LogForm("kafka", f"kafka://{own_broker.bootstrap}", tmp_path)
    async with served(form, tmp_path, api={"rate": 1_000}) as at:
        events, labels = pairs(20, now_ms())
        await at.scenario.user.events(*events)
        await at.scenario.user.labels(*labels)
        await until(lambda: at.scenario.learned(at.process) == 20, "every label is learned")
        pool = urllib3.PoolManager(maxsize=300, retries=False, timeout=20)
        head = {"authorization": f"Bearer {at.token}", "content-type": "application/json"}
        body = json.dumps({"instances": [{"a": 1.0, "b": 2.0}]})
        took_s: list[float] = []

        def ask(method: str, path: str, content: str | None = None) -> int:
            begun_s = time.monotonic()
            status = pool.request(method, f"http://{at.address}{path}", headers=head, body=content).status
            if content is not None:
                took_s.append(time.monotonic() - begun_s)
            return status

        threads, loop = ThreadPoolExecutor(300), asyncio.get_running_loop()
        polls, asked = [], []
        os.kill(own_broker.pid, signal.SIGSTOP)
        try:
            for _ in range(int(HANGS_FOR_S / EVERY_S)):
                polls.append(loop.run_in_executor(threads, ask, "GET", "/v1/status"))
                polls.append(loop.run_in_executor(threads, ask, "GET", f"/v1/models/{at.name}/metrics"))
                asked.append(loop.run_in_executor(threads, ask, "POST", f"/v1/models/{at.name}:predict", body))
                await asyncio.sleep(EVERY_S)
            answered = await asyncio.gather(*asked)
        finally:
            os.kill(own_broker.pid, signal.SIGCONT)
        assert {200} == set(answered)
        assert max(took_s) < 5
        assert 503 in await asyncio.gather(*polls)
        threads.shutdown()

        async def tells() -> bool:
            return await asyncio.to_thread(ask, "GET", "/v1/status") == 200

        await until(tells, "the status is told again")
