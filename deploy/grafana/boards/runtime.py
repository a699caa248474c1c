"""Runtime: what the processes use, and how HTTP and the store answer."""

from panels import RED, YELLOW, Board, Panel, Query

BOARD = Board(
    "tailrace-runtime",
    "Tailrace / Runtime",
    "CPU, memory, the event loop, HTTP and the store, process by process.",
    (
        (
            "Processes",
            (
                Panel(
                    "CPU",
                    "Cores that a process uses.",
                    "below 0.8: a process uses one core at most.",
                    "near 1: start another process, or give learning one of its own.",
                    "none",
                    (Query("{{instance}}", "rate(process_cpu_seconds_total{@INSTANCE}[$__rate_interval])"),),
                    limits=((0.8, YELLOW), (0.95, RED)),
                    decimals=2,
                ),
                Panel(
                    "Memory",
                    "Resident memory of a process.",
                    "a plateau.",
                    "a steady climb: more and more waits for labels, or the model grows.",
                    "bytes",
                    (Query("{{instance}}", "process_resident_memory_bytes{@INSTANCE}"),),
                ),
                Panel(
                    "Where CPU goes",
                    "CPU time by stage.",
                    "the same shares as last week.",
                    "encode grew: the model is slow to snapshot; decode: records became larger; learn: the model became heavier.",
                    "percentunit",
                    (
                        Query(
                            "{{stage}}", "sum by (stage) (rate(tailrace_stage_seconds_total{@JOB}[$__rate_interval]))"
                        ),
                    ),
                    "stack",
                ),
                Panel(
                    "Event loop wakes up late by",
                    "99 of 100 times.",
                    "below 0.1 s.",
                    "a model that takes long, or too little CPU: `tailrace run --role learn` apart.",
                    "s",
                    (Query("{{instance}}", "instance:tailrace_event_loop_lag_seconds:p99_5m{@INSTANCE}"),),
                    limits=((0.1, YELLOW), (0.5, RED)),
                ),
                Panel(
                    "Garbage collections",
                    "Of Python, by generation.",
                    "generation 2 a few times a minute at most.",
                    "many: something is kept that should not be; see Memory.",
                    "cps",
                    (
                        Query(
                            "{{instance}} {{generation}}",
                            "rate(python_gc_collections_total{@INSTANCE}[$__rate_interval])",
                        ),
                    ),
                ),
                Panel(
                    "Open files",
                    "Share of what the system allows.",
                    "below 50 %.",
                    "connections are not closed, or the limit is low: raise it, and report it.",
                    "percentunit",
                    (Query("{{instance}}", "process_open_fds{@INSTANCE} / process_max_fds{@INSTANCE}"),),
                    limits=((0.5, YELLOW), (0.9, RED)),
                ),
            ),
        ),
        (
            "HTTP and store",
            (
                Panel(
                    "HTTP requests",
                    "By route and class of status.",
                    "2xx.",
                    "5xx: read the process's log; 4xx: a client asks for what is not there.",
                    "reqps",
                    (
                        Query(
                            "{{method}} {{route}} {{status}}",
                            "sum by (method, route, status) (rate(tailrace_http_requests_total{@INSTANCE}[$__rate_interval]))",
                        ),
                    ),
                ),
                Panel(
                    "HTTP answers take",
                    "99 of 100, by route.",
                    "below 0.25 s.",
                    "slow with a busy event loop: see above.",
                    "s",
                    (
                        Query(
                            "{{route}}",
                            "histogram_quantile(0.99, sum by (route, le) (rate(tailrace_http_request_duration_seconds_bucket{@INSTANCE}[$__rate_interval])))",
                        ),
                    ),
                    limits=((0.25, YELLOW), (2, RED)),
                ),
                Panel(
                    "The store takes",
                    "Time that the store of snapshots takes to answer, 99 of 100.",
                    "below 1 s; no line `failed`.",
                    "failed: the store is down or full; snapshots wait and are tried again.",
                    "s",
                    (
                        Query(
                            "{{operation}} {{outcome}}",
                            "histogram_quantile(0.99, sum by (operation, outcome, le) (rate(tailrace_store_request_duration_seconds_bucket{@INSTANCE}[5m])))",
                        ),
                    ),
                    limits=((1, YELLOW), (10, RED)),
                ),
            ),
        ),
        (
            "Log and versions",
            (
                Panel(
                    "Log messages",
                    "By level, repeats that were left out included.",
                    "no error, few warnings.",
                    "read the log of the process; messages are JSON, one a line.",
                    "cpm",
                    (
                        Query(
                            "{{level}}",
                            "60 * sum by (level) (rate(tailrace_log_messages_total{@INSTANCE}[$__rate_interval])) or on () label_replace(vector(0), 'level', 'none', '', '')",
                        ),
                    ),
                    "stack",
                ),
                Panel(
                    "How long processes have run",
                    "How long a process has run.",
                    "hours and days.",
                    "minutes, again and again: it restarts; read its last words.",
                    "s",
                    (Query("{{instance}}", "time() - process_start_time_seconds{@INSTANCE}"),),
                    "bars",
                ),
                Panel(
                    "Versions",
                    "What runs where.",
                    "the same versions in all processes of a loop.",
                    "finish the deployment; `tailrace version --verbose` says more.",
                    "none",
                    (Query("", "tailrace_build_info{@INSTANCE}"),),
                    "table",
                    only=("instance", "version", "python", "river", "faust", "aiokafka"),
                ),
                Panel(
                    "Series",
                    "Series that a process shows to Prometheus.",
                    "below 2,000.",
                    "features, classes and partitions are capped; fewer partitions by process help.",
                    "short",
                    (Query("{{instance}}", "scrape_samples_post_metric_relabeling{@INSTANCE}"),),
                    limits=((2000, YELLOW), (5000, RED)),
                ),
            ),
        ),
    ),
    by_instance=True,
)
