"""Model quality and drift: quality, labels, predictions, drift and data, life."""

from panels import GREEN, RED, YELLOW, Board, Panel, Query

SKILL = "loop_model_metric:tailrace_model_skill:ratio"

BOARD = Board(
    "tailrace-model",
    "Tailrace / Model quality and drift",
    "Is the model better than a guess, do labels come, did the data change, and is the state kept?",
    (
        (
            "Quality",
            (
                Panel(
                    "Errors of a guess avoided",
                    "Share of the errors of the best trivial model that the model does not make, by metric;"
                    " one scale for all metrics: 100 % no error, 0 % a guess.",
                    "above 0 % for every metric, and steady.",
                    "below 0 %: go back to an older state, or promote another model (`tailrace branches list`).",
                    "percentunit",
                    (Query("{{metric}}", f"min by (metric) ({SKILL}" + "{@LOOP})"),),
                    limits=((0, YELLOW), (0.05, GREEN)),
                    low=RED,
                    least=None,
                    most=1,
                ),
                Panel(
                    "$metric of the model and of trivial ones",
                    "Of the last 1,000 judged predictions as they were served, and of trivial models beside it.",
                    "the model's line is on the better side of all others: above for accuracy and roc_auc, else below.",
                    "a crossing means that a guess would be as good; compare with drift and with the labels below.",
                    "none",
                    (
                        Query(
                            "{{model}}",
                            'max by (model) (tailrace_model_metric{window="rolling", metric="$metric", @LOOP})',
                        ),
                        Query(
                            "{{model}} since the start",
                            'max by (model) (tailrace_model_metric{window="all", metric="$metric", @LOOP})',
                        ),
                        Query(
                            "baseline {{baseline}}",
                            'max by (baseline) (tailrace_model_metric_baseline{window="rolling", metric="$metric", @LOOP})',
                        ),
                    ),
                    least=None,
                    decimals=3,
                ),
                Panel(
                    "Labels behind the numbers",
                    "On how many labels the quality rests.",
                    "1,000 in the window.",
                    "below some hundred the numbers jump; do not act on them yet.",
                    "short",
                    (Query("{{model}} {{window}}", "max by (model, window) (tailrace_model_metric_samples{@LOOP})"),),
                ),
            ),
        ),
        (
            "Labels",
            (
                Panel(
                    "What becomes of labels",
                    "Labels by outcome.",
                    "almost all joined.",
                    "late or orphaned: later than `horizon`, or for unknown ids; conflicting: two sources disagree. `tailrace dlq list`.",
                    "cps",
                    (Query("{{outcome}}", "sum by (outcome) (rate(tailrace_labels_total{@LOOP}[$__rate_interval]))"),),
                    "stack",
                ),
                Panel(
                    "How late labels are",
                    "Time from an event until its label: the darker, the more labels.",
                    "one band, well below `horizon`.",
                    "a band near `horizon`: many labels come for nothing; ask for earlier ones, or raise it.",
                    "s",
                    (
                        Query(
                            "{{le}}",
                            "sum by (le) (increase(tailrace_label_delay_seconds_bucket{@LOOP}[$__rate_interval]))",
                        ),
                    ),
                    "heat",
                ),
                Panel(
                    "What waits in the join",
                    "Events without a label yet, labels without an event yet, ids that are still remembered.",
                    "a plateau of about rate × horizon.",
                    "growth without end: labels stopped, or times are wrong (`tailrace doctor`).",
                    "short",
                    (
                        Query("events", "sum(tailrace_join_waiting_events{@LOOP})"),
                        Query("early labels", "sum(tailrace_join_early_labels{@LOOP})"),
                        Query("remembered ids", "sum(tailrace_join_remembered_ids{@LOOP})"),
                    ),
                ),
            ),
        ),
        (
            "Predictions",
            (
                Panel(
                    "Predicted probability",
                    "Of the positive class, of binary loops: the darker, the more predictions.",
                    "the same pattern as yesterday.",
                    "all in one band: the model says the same to everybody; look at drift and features.",
                    "none",
                    (
                        Query(
                            "{{le}}",
                            "sum by (le) (increase(tailrace_prediction_value_bucket{@LOOP}[$__rate_interval]))",
                        ),
                    ),
                    "heat",
                ),
                Panel(
                    "Predicted classes",
                    "Predictions of a classifier, by class.",
                    "shares that move slowly.",
                    "one class takes over: compare with the labels; the data or the model changed.",
                    "cps",
                    (
                        Query(
                            "{{class}}",
                            "sum by (class) (rate(tailrace_predicted_class_total{@LOOP}[$__rate_interval]))",
                        ),
                    ),
                    "stack",
                ),
                Panel(
                    "Events without an answer",
                    "Share of the predictions that are null.",
                    "0.",
                    "normal for a model that has learned nothing yet; else `tailrace status`.",
                    "percentunit",
                    (
                        Query(
                            "null",
                            '(sum(rate(tailrace_events_total{outcome="abstained", @LOOP}[$__rate_interval])) or vector(0))'
                            ' / sum(rate(tailrace_events_total{outcome=~"scored|abstained", @LOOP}[$__rate_interval]))',
                        ),
                    ),
                    limits=((0.05, RED),),
                ),
            ),
        ),
        (
            "Drift and data",
            (
                Panel(
                    "Drift signals",
                    "Signals of the detectors, in an hour.",
                    "0; some after a known change.",
                    "ask whoever owns the data what changed; the model adapts, watch its quality.",
                    "none",
                    (
                        Query(
                            "{{layer}} {{detector}}",
                            "sum by (layer, detector) (increase(tailrace_drift_events_total{@LOOP}[1h])) or on () label_replace(vector(0), 'layer', 'none', '', '')",
                        ),
                    ),
                    limits=((1, YELLOW),),
                ),
                Panel(
                    "Features that are missing",
                    "Share of the accepted events without a feature, the worst ten.",
                    "as it always was for each feature.",
                    "a step up: its producer stopped filling it; the model learns without it.",
                    "percentunit",
                    (
                        Query(
                            "{{feature}}",
                            "topk(10, sum by (feature) (rate(tailrace_feature_missing_total{@LOOP}[$__rate_interval])))"
                            ' / scalar(sum(rate(tailrace_events_total{outcome=~"scored|abstained", @LOOP}[$__rate_interval]))) or on () label_replace(vector(0), "feature", "none", "", "")',
                        ),
                    ),
                ),
                Panel(
                    "Examples left out",
                    "The model raised on them, in an hour.",
                    "0.",
                    "`tailrace log cat` shows the skips with their positions; mend the model.",
                    "none",
                    (Query("skipped", "sum(increase(tailrace_examples_skipped_total{@LOOP}[1h]))"),),
                    limits=((1, RED),),
                ),
            ),
        ),
        (
            "Life",
            (
                Panel(
                    "Which model serves",
                    "Processes by the version of the model that answers.",
                    "one version in all processes.",
                    "two versions for long: a process does not take the new one; restart it.",
                    "none",
                    (Query("{{model}} {{version}}", "sum by (model, version) (tailrace_model_info{@LOOP})"),),
                    width=6,
                ),
                Panel(
                    "Decisions",
                    "Admissions, promotions, retirements, and commands that were refused.",
                    "what people asked for.",
                    "`tailrace branches history` tells who, when and why.",
                    "none",
                    (
                        Query(
                            "{{kind}} {{outcome}}", "sum by (kind, outcome) (tailrace_branch_decisions_total{@LOOP})"
                        ),
                        Query("commands refused", "sum(tailrace_commands_refused_total{@LOOP}) or vector(0)"),
                    ),
                    width=6,
                ),
                Panel(
                    "Size of snapshots",
                    "Bytes of the last one of each kind.",
                    "small and flat.",
                    "growth: the model grows without bound; see docs/models.md.",
                    "bytes",
                    (Query("{{kind}}", "max by (kind) (tailrace_snapshot_bytes{@LOOP})"),),
                    width=6,
                ),
                Panel(
                    "Snapshots take",
                    "99 of 100 of each phase; learning waits while one is encoded.",
                    "encoding below 0.1 s.",
                    "a lighter model, rarer snapshots, or a follower that takes them (`snapshots.by`).",
                    "s",
                    (
                        Query(
                            "{{phase}}",
                            "histogram_quantile(0.99, sum by (phase, le) (rate(tailrace_snapshot_duration_seconds_bucket{@LOOP}[$__rate_interval])))",
                        ),
                    ),
                    limits=((0.1, YELLOW), (1, RED)),
                    width=6,
                ),
            ),
        ),
    ),
    by_metric=True,
    since="now-6h",
)
