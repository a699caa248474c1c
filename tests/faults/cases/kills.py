"""SIGKILL of processes."""

from __future__ import annotations

import asyncio

from tests.faults.catalog import Result, Trial, fault
from tests.faults.ground import ground, now_ms

SCORERS = dict.fromkeys(("score-1", "score-2", "score-3"), ("score",))


@fault("F01", "kill -9 a scorer, one of three", ci=20, full=200, limit_s=480)
async def scorers(trial: Trial) -> Result:
    """Half of the kills with a session timeout of 2 s, half with 10 s."""
    result = Result()
    for timeout in ("2s", "10s"):
        teams = SCORERS | {"join": ("join",), "learn": ("learn",)}
        async with ground(trial.folder / timeout, trial.seed, teams=teams, session_timeout=timeout) as at:
            await at.warm_up()
            for number in range(trial.times // 2):
                name = at.rng.choice(list(SCORERS))
                async with at.load.flowing():
                    await asyncio.sleep(at.rng.uniform(0.2, 1.5))
                    killed_ms = now_ms()
                    await at.fleet.kill(name)
                    seconds = await at.recovered(killed_ms)
                    result.recovered(timeout, seconds)
                    during = await at.predicted_since(killed_ms, killed_ms + int(seconds * 1_000))
                    result.predictions.append(sum(map(len, during.values())))
                    await at.fleet.start(name)
                await at.check(f"kill {number + 1} of a scorer, {name}")
                result.times += 1
            result.add(await at.finish())
    return result
