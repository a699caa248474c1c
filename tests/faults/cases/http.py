"""What strangers do to the HTTP port of a worker under load."""

from __future__ import annotations

import asyncio
import time

from tests.faults.catalog import Result, Trial, fault
from tests.faults.ground import ground
from tests.scenarios import abuse
from tests.scenarios.api_ground import free_address, make_token

STREAMS = 16
CONNECTIONS = 600


@fault("F37", "HTTP abuse: no token, slow lines, great bodies, tricks", ci=800, full=8_000, limit_s=300)
async def http_abuse(trial: Trial) -> Result:
    """Everything at once with real load: the loop goes on, nothing opens, no log holds what was sent."""
    result, address = Result(), free_address()
    async with ground(trial.folder, trial.seed, http=address, api={"rate": 1_000, "max_streams": STREAMS}) as at:
        token = make_token(at.scenario.settings.folder)
        await at.warm_up()
        name = at.scenario.domain.name
        bounds = {"streams": STREAMS, "connections": CONNECTIONS, "most": 512, "head_within_s": 11.0}
        done: dict[str, int] = {}
        while sum(done.values()) < trial.times:
            began_ms = int(time.time_ns() // 1_000_000)
            abusing = asyncio.create_task(
                asyncio.to_thread(lambda: dict(abuse.all_of_them(address, token, name, **bounds)))
            )
            while not abusing.done():
                await at.load.piece(20)
                await asyncio.sleep(0.05)
            for kind, times in (await abusing).items():
                done[kind] = done.get(kind, 0) + times
            predicted = await at.predicted_since(began_ms)
            result.predictions.append(sum(map(len, predicted.values())))
            assert result.predictions[-1], "nothing was predicted meanwhile"
        for member, worker in at.fleet.running.items():
            told = worker.said
            assert token not in told, member
            assert "alert(1)" not in told, member
        result.times = sum(done.values())
        result.notes.append(", ".join(f"{times} {kind.replace('_', ' ')}" for kind, times in done.items()))
        result.add(await at.finish())
    return result
