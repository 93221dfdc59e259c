"""``providers``: the table of rows, whether each one's key is set, and the heads that are found by themselves."""

from __future__ import annotations

import os
from dataclasses import asdict
from typing import Any

from swift_client.cli import options, output
from swift_client.display import escape_unsafe

LOGPROB_SPACE_LABELS = {"raw": "raw", "after_temperature": "tempered", "unknown": "unknown"}


def providers(as_json: options.Json = False) -> None:
    """List the providers: key variable, what they can do, and when that was checked; and the heads there are."""
    from swift_client.adapters import PROVIDERS
    from swift_client.adapters.providers import entry_points
    from swift_client.models import scan, user_folder

    rows: list[dict[str, Any]] = [
        {
            "name": row.name,
            "key_variable": row.key_variable,
            "key_set": bool(os.environ.get(row.key_variable)) if row.key_variable else None,
            "base_url": row.base_url,
            "default_model": row.default_model,
            "n_max": row.capabilities.n_max,
            "top_logprobs_max": row.capabilities.top_logprobs_max,
            "logprob_space": row.capabilities.logprob_space,
            "streams_logprobs": row.capabilities.streams_logprobs,
            "end_of_turn": row.capabilities.end_of_turn,
            "thinking": row.capabilities.thinking,
            "checked": row.capabilities.checked,
            "evidence": row.capabilities.evidence,
            "models": [{"pattern": pattern, **facts} for pattern, facts in row.models],
        }
        for row in PROVIDERS.values()
    ]
    shelf = scan()
    if as_json:
        heads = [{**asdict(head), "path": str(head.path), "packaged": head.is_packaged} for head in shelf.heads]
        output.print_json(
            {
                "providers": rows,
                "added": entry_points.provider_names(),
                "heads": heads,
                "skipped": shelf.skip_reasons,
                "heads_folder": str(user_folder()),
            }
        )
        return

    from rich.table import Table
    from rich.text import Text

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
    legend = (
        "key: ✓ set, ✗ not set, – none needed · n: answers one call may bring · k: alternatives listed for a token · "
        "tempered: temperature was applied before the logprobs were taken"
    )
    names = ", ".join(f"{head.name}{' (packaged)' * head.is_packaged}" for head in shelf.heads) or "none"
    found = f'heads that head="auto" finds: {names} · your own go into {user_folder()}'
    output.show(table, "", Text(legend, style="dim"), "", Text(escape_unsafe(found), style="dim"))
    if names_added := entry_points.provider_names():
        output.show(Text(escape_unsafe(f"added by other packages: {', '.join(names_added)}"), style="dim"))
    for sentence in shelf.skip_reasons:
        output.stderr_console().print(Text(escape_unsafe(sentence), style="yellow"))
