"""``providers``: the supported providers, whether their keys are set, and the heads that can be found."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table

from swift_client.cli import options, output

if TYPE_CHECKING:
    from swift_client.adapters import Provider

LOGPROB_SPACE_LABELS = {"raw": "raw", "after_temperature": "tempered", "unknown": "unknown"}
# Capabilities in the JSON document, in this order.
CAPABILITIES = (
    *("n_max", "top_logprobs_max", "logprob_space", "streams_logprobs"),
    *("end_of_turn", "thinking", "checked", "evidence"),
)
LEGEND = (
    "key: ✓ set, ✗ not set, – not needed · n: most answers per request · k: alternatives listed per token · "
    "tempered: temperature is applied before the logprobs are computed"
)


def providers(as_json: options.Json = False) -> None:
    """List the providers, their keys and capabilities, and the heads that can be found."""
    from swift_client.adapters import PROVIDERS
    from swift_client.adapters.providers import added_provider_names
    from swift_client.models import scan, user_folder

    rows = [_to_dict(row) for row in PROVIDERS.values()]
    library = scan()
    if as_json:
        heads = [{**asdict(head), "path": str(head.path), "packaged": head.is_packaged} for head in library.heads]
        output.print_json(
            {
                "providers": rows,
                "added": added_provider_names(),
                "heads": heads,
                "skipped": library.skip_reasons,
                "heads_folder": str(user_folder()),
            }
        )
        return
    names = ", ".join(f"{head.name}{' (packaged)' * head.is_packaged}" for head in library.heads) or "none"
    heads_line = f'heads that head="auto" finds: {names} · folder for your own heads: {user_folder()}'
    output.show(_table(rows), "", output.safe(LEGEND, "dim"), "", output.safe(heads_line, "dim"))
    if plugin_names := added_provider_names():
        output.show(output.safe(f"added by other packages: {', '.join(plugin_names)}", "dim"))
    output.warn(*library.skip_reasons)


def _to_dict(row: Provider) -> dict[str, Any]:
    return {
        "name": row.name,
        "key_variable": row.key_variable,
        "key_set": bool(os.environ.get(row.key_variable)) if row.key_variable else None,
        "base_url": row.base_url,
        "default_model": row.default_model,
        **{name: getattr(row.capabilities, name) for name in CAPABILITIES},
        "models": [{"pattern": pattern, **facts} for pattern, facts in row.models],
    }


def _table(rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("provider", "key", "n", "k", "logprobs", "checked"):
        table.add_column(name, justify="right" if name in ("n", "k") else "left", no_wrap=True)
    for row in rows:
        table.add_row(
            row["name"],
            "–" if row["key_set"] is None else f"{'✓' if row['key_set'] else '✗'} {row['key_variable']}",
            str(row["n_max"] or "any"),
            str(row["top_logprobs_max"] or "none"),
            LOGPROB_SPACE_LABELS[row["logprob_space"]],
            row["checked"],
        )
    return table
