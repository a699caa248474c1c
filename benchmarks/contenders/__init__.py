"""The contenders, one file each: `python -m benchmarks.contenders.NAME TASK`, where TASK is `protocol.Task` as JSON."""
