"""The tables of a configuration, with their types, ranges and defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_args

import msgspec

TENANT = "{tenant}"  # in the store of a model: stands for the tenant of a client's key
Count = Annotated[int, msgspec.Meta(ge=1)]
Seconds = Annotated[float, msgspec.Meta(gt=0)]
OverrideName = Literal[
    "n", "deadline", "stopping", "budget", "on_reject", "reference", "texts", "select", "answer", "verifier", "head"
]


class ServerConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The table ``[server]``: the address, the limits of requests, and who may call from a browser.

    Attributes:
        host: Address to listen on.
        port: Port; 0 takes a free one.
        workers: Processes that serve; each has its share of ``max_concurrency``, ``max_queue`` and ``max_connections``.
        path_prefix: Path before every route, such as "/llm".
        cors_origins: Origins of web pages that may call; "*" for all.
        tls_certificate: File with the certificate chain (PEM).
        tls_key: File with its private key (PEM).
        max_body_bytes: Longest body of a request.
        body_timeout: Seconds in which a body must arrive.
        header_timeout: Seconds in which the headers must arrive.
        write_timeout: Seconds in which the client must take a part of the reply.
        max_concurrency: Requests answered at once.
        max_queue: Requests that wait for their turn; any more get 503.
        queue_timeout: Seconds that a request waits for its turn before it gets 503.
        max_connections: Open connections.
        keep_alive: Seconds between comments in a stream that has no answer yet.
        drain_timeout: Seconds that running requests have after SIGTERM.
        usage_store: Samples file with the counts of limits; None: they are in memory and begin anew with the process.
        metrics: True to count for Prometheus, and to serve ``/metrics``.
        traces: True to make spans for OpenTelemetry (extra "otel").
        trace_content: True if spans have prompts and answers.
        log_format: Format of log lines: "text", or "json" for one object per line.
        log_content: True if the log has prompts and answers.
        ui: True to serve the inspector at ``/ui``, which shows prompts and answers.
    """

    host: str = "127.0.0.1"
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 8000
    workers: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    path_prefix: str = ""
    cors_origins: tuple[str, ...] = ()
    tls_certificate: str | None = None
    tls_key: str | None = None
    max_body_bytes: Count = 20_000_000
    body_timeout: Seconds = 30.0
    header_timeout: Seconds = 10.0
    write_timeout: Seconds = 60.0
    max_concurrency: Count = 64
    max_queue: Annotated[int, msgspec.Meta(ge=0)] = 256
    queue_timeout: Seconds = 30.0
    max_connections: Count = 4096
    keep_alive: Seconds = 5.0
    drain_timeout: Seconds = 300.0
    usage_store: str | None = None
    metrics: bool = True
    traces: bool = False
    trace_content: bool = False
    log_format: Literal["text", "json"] = "text"
    log_content: bool = False
    ui: bool = False


class VerifierConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The table ``[models.NAME.verifier]``; see ``Verifier``."""

    judge: str = "self"
    mode: Literal["auto", "p_true", "score", "pairwise"] = "auto"
    criteria: str | list[str] | dict[str, float] | None = None
    when: Literal["doubt", "always"] = "doubt"
    reference: str | None = None
    require: bool = False


class BudgetConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The table ``[models.NAME.budget]``: limits of one request; see ``Budget``."""

    usd: Annotated[float, msgspec.Meta(gt=0)] | None = None
    tokens: Count | None = None
    seconds: Seconds | None = None
    calls: Count | None = None


class CapsConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The table ``[models.NAME.caps]``: limits of what a request may ask for.

    Attributes:
        n: Most completions to choose from; default: the model's ``n``.
        deadline: Longest deadline in seconds; default: the model's.
        max_tokens: Longest completion; also sent if the request sets no length.
        overrides: Names that a request may set in its field ``swift``.
    """

    n: Annotated[int, msgspec.Meta(ge=1, le=1024)] | None = None
    deadline: Seconds | None = None
    max_tokens: Count | None = None
    overrides: tuple[OverrideName, ...] = get_args(OverrideName)


class LimitsConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The tables ``[keys.NAME.limits]`` and ``[models.NAME.limits]``: limits of all its requests; None: no limit."""

    requests_per_minute: Count | None = None
    tokens_per_minute: Count | None = None
    usd_per_minute: Annotated[float, msgspec.Meta(gt=0)] | None = None
    requests_per_day: Count | None = None
    tokens_per_day: Count | None = None
    usd_per_day: Annotated[float, msgspec.Meta(gt=0)] | None = None


class ModelConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The table ``[models.NAME]``: a virtual model, named NAME by clients.

    Attributes:
        provider: Name of the provider.
        model: Model of the provider; None: its default model.
        n: Completions to choose from.
        head: "auto", "none", or the name or file of a head.
        heads: Further heads, by the names that requests choose them with.
        shadow: Name or file of a head that scores every question and decides nothing; None: no such head.
        stopping: A stopping rule, such as "auto"; None: all completions at once.
        verifier: A judge's name, or a table; None: no verifier.
        deadline: Seconds after which the best of what has arrived is returned.
        require_logprobs: "auto" uses the logprobs that come; false asks for none, so that votes weigh equally; true
            refuses replies without them.
        top_logprobs: Alternatives per token to ask for; None: as many as the head or the provider knows.
        key: "service": the service's own key; "caller": the key in the caller's Authorization header.
        api_key_env: Environment variable with the service's key; None: the provider's own variable.
        store: Samples file that keeps every reply, or the URL of a Redis. "{tenant}" in it stands for the tenant of the
            client's key, so that every tenant has a file, or a prefix in the Redis, of its own.
        redact: Presets of what is removed from all that is stored and logged, such as "mails".
        keep: "arrays" stores and logs no text.
        drift: What happens while the model's answers are unlike those that the head was trained on: "note", "withhold",
            "set_aside", as of ``SwiftReranker``; "none": they are not compared.
        sampling: Fields of upstream requests that set a default, such as ``temperature``.
    """

    provider: str
    model: str | None = None
    n: Annotated[int, msgspec.Meta(ge=1, le=1024)] = 8
    head: str = "auto"
    heads: dict[str, str] = {}
    shadow: str | None = None
    scorer: str = "auto"
    answer: str = "auto"
    select: Literal["auto", "vote", "best", "consensus"] = "auto"
    similarity: str | None = None
    stopping: str | None = None
    verifier: str | VerifierConfig | None = None
    budget: BudgetConfig | None = None
    deadline: Seconds | None = None
    on_reject: Literal["return", "abstain", "escalate"] = "return"
    require_logprobs: bool | Literal["auto"] = "auto"
    top_logprobs: Annotated[int, msgspec.Meta(ge=0, le=1024)] | None = None
    base_url: str | None = None
    key: Literal["service", "caller"] = "service"
    api_key_env: str | None = None
    timeout: Seconds = 60.0
    max_retries: Annotated[int, msgspec.Meta(ge=0)] = 2
    max_concurrency: Count = 64
    store: str | None = None
    redact: str | list[str] | None = None
    keep: Literal["all", "arrays"] = "all"
    drift: Literal["note", "withhold", "set_aside", "none"] = "note"
    sampling: dict[str, Any] = msgspec.field(default_factory=dict)
    caps: CapsConfig = CapsConfig()
    limits: LimitsConfig = LimitsConfig()

    @property
    def store_per_tenant(self) -> str | None:
        """The store if ``TENANT`` is in it; None for one store, or none."""
        return self.store if self.store is not None and TENANT in self.store else None


class PassthroughConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The table ``[passthrough]``: the provider of all models that are not virtual ones; see ``ModelConfig``.

    Attributes:
        provider: Name of a provider whose API is OpenAI's.
        key: "service": the service's own key; "caller": the key in the caller's Authorization header.
        api_key_env: Environment variable with the service's key; None: the provider's own variable.
        timeout: Seconds without a byte of the reply.
        max_concurrency: Requests to the provider at once.
    """

    provider: str
    base_url: str | None = None
    key: Literal["service", "caller"] = "service"
    api_key_env: str | None = None
    timeout: Seconds = 600.0
    max_concurrency: Count = 64


class KeyConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The table ``[keys.NAME]``: a client's key as its salted hash, the virtual models for it, and its limits.

    Attributes:
        hash: The hash, as ``swift-client serve --new-key NAME`` prints it.
        models: Names of the virtual models; None for all, empty for none.
        limits: Its limits.
        metrics: True if the key may read ``/metrics``.
        ui: True if the key opens the inspector, with the selections of its models.
        tenant: Name of the tenant that it belongs to; None: the key is a tenant of its own.
    """

    hash: str
    models: tuple[str, ...] | None = None
    limits: LimitsConfig = LimitsConfig()
    metrics: bool = False
    ui: bool = False
    tenant: str | None = None


class ServiceConfig(msgspec.Struct, forbid_unknown_fields=True, frozen=True, kw_only=True):
    """The complete configuration."""

    server: ServerConfig = ServerConfig()
    models: dict[str, ModelConfig]
    keys: dict[str, KeyConfig] = {}
    passthrough: PassthroughConfig | None = None

    @property
    def has_limits(self) -> bool:
        """True if a key or a model has limits."""
        limits = [model.limits for model in self.models.values()] + [key.limits for key in self.keys.values()]
        return any(table != LimitsConfig() for table in limits)
