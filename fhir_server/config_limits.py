"""Settings that bound what the server takes and does; ``config.Settings`` holds them too."""

from __future__ import annotations

from dataclasses import dataclass, field

from fhir_server.config_values import as_count, as_names, as_positive, of, one_of


@dataclass(frozen=True, slots=True)
class LimitSettings:
    """Sizes are bytes unless the meaning says otherwise."""

    model_seconds: int = field(
        default=5,
        metadata=of("MODEL_SECONDS", as_positive, "Longest run of a model (seconds)."),
    )
    model_memory: int = field(
        default=1024,
        metadata=of(
            "MODEL_MEMORY", as_positive, "Address space of a process that runs models (MiB)."
        ),
    )
    model_workers: int = field(
        default=1,
        metadata=of(
            "MODEL_WORKERS", as_positive, "Processes that run models, of each server process."
        ),
    )
    model_providers: tuple[str, ...] = field(
        default=(),
        metadata=of(
            "MODEL_PROVIDERS",
            as_names,
            "Providers of onnxruntime that run models (cuda), by preference; last the processor.",
        ),
    )
    model_watch_seconds: int = field(
        default=3600,
        metadata=of(
            "MODEL_WATCH_SECONDS",
            as_count,
            "How often models in use are compared with their thresholds; 0: never by themselves.",
        ),
    )
    page_size: int = field(
        default=20, metadata=of("PAGE_SIZE", as_positive, "Matches on a page without _count.")
    )
    max_page_size: int = field(
        default=1000, metadata=of("MAX_PAGE_SIZE", as_positive, "Greatest _count.")
    )
    max_values: int = field(
        default=1000,
        metadata=of(
            "MAX_VALUES", as_positive, "Most alternatives (a,b,c) of one search criterion."
        ),
    )
    max_chain: int = field(
        default=4,
        metadata=of("MAX_CHAIN", as_positive, "Most chained references and _has in one criterion."),
    )
    max_includes: int = field(
        default=50,
        metadata=of(
            "MAX_INCLUDES", as_positive, "Most _include and _revinclude of a query but for *."
        ),
    )
    max_body: int = field(
        default=10000000, metadata=of("MAX_BODY", as_positive, "Greatest request body.")
    )
    max_content: int = field(
        default=100000000,
        metadata=of("MAX_CONTENT", as_positive, "Greatest raw content of a Binary."),
    )
    max_depth: int = field(
        default=64, metadata=of("MAX_DEPTH", as_positive, "Deepest nesting of JSON.")
    )
    max_string: int = field(
        default=1048576,
        metadata=of(
            "MAX_STRING", as_positive, "Longest JSON string but base64 content (characters)."
        ),
    )
    max_array: int = field(
        default=100000, metadata=of("MAX_ARRAY", as_positive, "Longest JSON array (items).")
    )
    max_entries: int = field(
        default=1000,
        metadata=of("MAX_ENTRIES", as_positive, "Most entries of a batch or transaction."),
    )
    max_url: int = field(
        default=16384, metadata=of("MAX_URL", as_positive, "Longest URL with its query.")
    )
    max_headers: int = field(
        default=32768, metadata=of("MAX_HEADERS", as_positive, "Most bytes of request headers.")
    )
    compress_above: int = field(
        default=32768,
        metadata=of(
            "COMPRESS_ABOVE",
            as_count,
            "Bytes above which an answer is compressed (gzip) for who takes that; 0: never.",
        ),
    )
    conditional_delete: str = field(
        default="single",
        metadata=of(
            "CONDITIONAL_DELETE",
            one_of("single", "multiple"),
            "What a conditional delete may remove: single, or multiple (up to 1000) resources.",
        ),
    )
    request_seconds: int = field(
        default=30,
        metadata=of("REQUEST_SECONDS", as_positive, "Time after which a request is given up."),
    )
    max_running: int = field(
        default=500,
        metadata=of(
            "MAX_RUNNING", as_positive, "Requests that a worker works on at a time; beyond: 503."
        ),
    )
    max_slow: int = field(
        default=32,
        metadata=of(
            "MAX_SLOW",
            as_positive,
            "Slow searches of one principal that wait at a time (fewer where they could not all be "
            "answered in time); beyond: 429.",
        ),
    )
    max_held: int = field(
        default=268435456,
        metadata=of(
            "MAX_HELD", as_positive, "Bytes of request bodies in a worker's memory; beyond: 503."
        ),
    )
    max_connections: int = field(
        default=10000,
        metadata=of(
            "MAX_CONNECTIONS",
            as_positive,
            "Connections of a worker, at most 3/4 of the files it may open; beyond: 503.",
        ),
    )
    head_seconds: int = field(
        default=10,
        metadata=of("HEAD_SECONDS", as_positive, "Time in which the headers of a request arrive."),
    )
    stall_seconds: int = field(
        default=30,
        metadata=of(
            "STALL_SECONDS", as_positive, "Time in which a client takes some of its answer."
        ),
    )
    idle_seconds: int = field(
        default=75,
        metadata=of("IDLE_SECONDS", as_positive, "Time that a connection stays without a request."),
    )
    leave_seconds: int = field(
        default=2,
        metadata=of(
            "LEAVE_SECONDS",
            as_positive,
            "Time in which a server that was told to stop still serves, but is not ready.",
        ),
    )
    max_jobs: int = field(
        default=5, metadata=of("MAX_JOBS", as_positive, "Most unfinished jobs of one owner.")
    )
    running_jobs: int = field(
        default=4, metadata=of("RUNNING_JOBS", as_positive, "Jobs that a worker runs at a time.")
    )
    job_lease_seconds: int = field(
        default=30,
        metadata=of(
            "JOB_LEASE_SECONDS",
            as_positive,
            "Silence of a worker after which another goes on with its jobs.",
        ),
    )
    job_hours: int = field(
        default=24,
        metadata=of("JOB_HOURS", as_positive, "How long ended jobs and their files stay."),
    )
    audit_days: int = field(
        default=0,
        metadata=of(
            "AUDIT_DAYS",
            as_count,
            "Days that the audit trail is kept; older chains go with their rows; 0: for ever.",
        ),
    )
    user_rate: int = field(
        default=6000,
        metadata=of(
            "USER_RATE",
            as_count,
            "Requests of one user in a minute (entries of Bundles count); beyond: 429;"
            " 0: any number. The workers of a machine count together.",
        ),
    )
    client_rate: int = field(
        default=600000,
        metadata=of(
            "CLIENT_RATE",
            as_count,
            "Requests of one client in a minute; beyond: 429; 0: any number.",
        ),
    )
    delicate_rate: int = field(
        default=60,
        metadata=of(
            "DELICATE_RATE",
            as_count,
            "In a minute, of one user or address: changes of consents, exports, broken glass,"
            " registrations, administration; beyond: 429; 0: any number.",
        ),
    )
