"""``rollback``: put a head back that another one replaced."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from swift_client.cli import options, output

if TYPE_CHECKING:
    from swift_client.models.replaced_heads import KeptHead


def rollback(
    head: Annotated[str, typer.Argument(help="The head's file, or the name of one in your folder of heads.")],
    to: Annotated[
        int | None,
        typer.Option(min=1, help="Number of the kept head. Default: the latest that no rollback has withdrawn."),
    ] = None,
    only_list: Annotated[bool, typer.Option("--list", help="List the kept heads and change nothing.")] = False,
    as_json: options.Json = False,
) -> None:
    """Put back the head that a newer one replaced; the newer one is kept too."""
    from swift_client.errors import ArtifactError
    from swift_client.models.replaced_heads import find_head_file, kept_heads
    from swift_client.models.replaced_heads import rollback as put_back

    path = find_head_file(head)
    target = None if only_list else put_back(path, to=to)
    rows = [_describe(row) for row in kept_heads(path)]
    if not rows and not path.exists():
        raise ArtifactError(f"There is no head {path}.", hint="Check the path.")
    if as_json:
        output.print_json({"head": str(path), "restored": target and target.number, "kept": rows})
        return
    if target is not None:
        output.show(output.safe(f"{path} · head {target.number} is back.", "bold"))
        output.show(output.safe("A running service reads it after SIGHUP, a reranker when it is made again.", "dim"))
    if not rows:
        output.show(output.safe(f"No other head is kept beside {path}."))
        return
    table = output.make_table(("kept", "model", "verdict"), ("questions",))
    for row in rows:
        number = f"{row['number']} (withdrawn)" if row["withdrawn"] else str(row["number"])
        texts = (number, f"{row['provider']}/{row['model']}", row["verdict"] or "–")
        table.add_row(*map(output.safe, texts), "–" if row["questions"] is None else f"{row['questions']:,}")
    output.show(table)


def _describe(head: KeptHead) -> dict[str, Any]:
    from swift_client.models.file_format import read_facts

    facts = read_facts(head.path)
    parts = facts.training.get("questions")
    counts = parts.values() if isinstance(parts, dict) else ()
    return {
        "number": head.number,
        "withdrawn": head.withdrawn,
        "file": str(head.path),
        "provider": facts.provider,
        "model": facts.model,
        "questions": sum(count for count in counts if isinstance(count, int)) if parts else None,
        "verdict": str(facts.training["verdict"]) if "verdict" in facts.training else None,
    }
