"""OpenAI's Batch API over loopback: files, batches and their contents, on top of :class:`tests.servers.FaultServer`.

Every request of a batch is answered as the same request is answered directly, by its body alone. ``server.stop_at``
names a stage at which the server says nothing any more, so that a test can kill who asks.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.servers import FaultServer, Received, Response, chat_body, error, json_response


def reply_to(body: dict[str, Any]) -> dict[str, Any]:
    """Answer a chat request; the same body gets the same answer."""
    name = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:6]
    texts = [f"The answer {number} of {name} is 4" for number in range(body.get("n", 1))]
    return chat_body(texts, k=body.get("top_logprobs") if body.get("logprobs") else None)


class BatchServer(FaultServer):
    """A provider with batches. Each look at a batch moves it on by one status."""

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        """Completions in the order in which they were sent; each was paid for."""
        self.direct = 0
        """Completions asked for without a batch."""
        self.stop_at: str | None = None
        """"upload", "create", "created", "poll", "content": hang at the first request of this kind."""
        self.stopped = threading.Event()
        self.statuses = ["validating", "in_progress", "finalizing", "completed"]
        self.lines: Callable[[list[bytes], list[bytes]], tuple[list[bytes], list[bytes]]] = lambda out, bad: (out, bad)
        """Changes the output and error lines."""
        self.answer: Callable[[str, dict[str, Any]], dict[str, Any] | None] = lambda custom_id, body: None
        """Returns the line of one request if it is not the usual one."""
        self._guard = threading.RLock()
        self.serve(self._handle)

    @property
    def batched_requests(self) -> list[dict[str, Any]]:
        """Return all requests of all batches that were made."""
        files = [self.files[batch["input_file_id"]] for batch in self.batches.values()]
        return [json.loads(line) for file in files for line in file.splitlines()]

    def _handle(self, request: Received) -> Response:
        with self._guard:
            path = urlsplit(request.path).path.removeprefix("/v1")
            match request.method, path.strip("/").split("/"):
                case "POST", ["files"]:
                    return self._halted("upload") or self._upload(request.body)
                case "POST", ["batches"]:
                    return self._halted("create") or self._create(request.json)
                case "GET", ["batches"]:
                    return self._list(parse_qs(urlsplit(request.path).query))
                case "GET", ["batches", name]:
                    return self._halted("poll") or self._look(name)
                case "GET", ["files", name, "content"]:
                    return self._halted("content") or Response(200, self.files[name], {"content-type": "text/plain"})
                case "POST", ["chat", "completions"]:
                    self.direct += request.json.get("n", 1)
                    return json_response(reply_to(request.json))
            return error(404, f"no {path}")

    def _halted(self, stage: str) -> Response | None:
        if self.stop_at != stage:
            return None
        self.stop_at = None
        self.stopped.set()
        return Response(hang=True)

    def _upload(self, body: bytes) -> Response:
        boundary = body[: body.index(b"\r\n")]
        parts = [part.partition(b"\r\n\r\n") for part in body.split(boundary)]
        fields = {head.split(b'name="')[1].split(b'"')[0]: rest[:-2] for head, _, rest in parts if b'name="' in head}
        assert fields[b"purpose"] == b"batch"
        name = f"file-{len(self.files)}"
        self.files[name] = fields[b"file"]
        return json_response({"id": name, "object": "file", "purpose": "batch"})

    def _create(self, body: dict[str, Any]) -> Response:
        assert body["completion_window"] == "24h"
        name = f"batch_{len(self.batches)}"
        total = len(self.files[body["input_file_id"]].splitlines())
        self.batches[name] = {
            "id": name,
            "object": "batch",
            "input_file_id": body["input_file_id"],
            "endpoint": body["endpoint"],
            "metadata": body["metadata"],
            "status": self.statuses[0],
            "created_at": 10**10,
            "request_counts": {"total": total, "completed": 0, "failed": 0},
            "errors": None,
            "output_file_id": None,
            "error_file_id": None,
        }
        return self._halted("created") or json_response(self.batches[name])

    def _list(self, query: dict[str, list[str]]) -> Response:
        newest = list(self.batches.values())[::-1]
        after = query.get("after", [None])[0]
        start = next((index + 1 for index, batch in enumerate(newest) if batch["id"] == after), 0)
        page = newest[start : start + 2]  # small pages, whatever is asked
        return json_response({"object": "list", "data": page, "has_more": start + 2 < len(newest)})

    def _look(self, name: str) -> Response:
        batch = self.batches[name]
        if batch["status"] != self.statuses[-1]:
            batch["status"] = self.statuses[self.statuses.index(batch["status"]) + 1]
            if batch["status"] == self.statuses[-1]:
                self._run(batch)
        return json_response(batch)

    def _run(self, batch: dict[str, Any]) -> None:
        """Write the output files of a batch that has ended."""
        if batch["status"] == "failed":
            batch["errors"] = {"data": [{"code": "token_limit_exceeded", "message": "Enqueued token limit reached."}]}
            return
        output, errors = [], []
        for line in self.files[batch["input_file_id"]].splitlines():
            row = json.loads(line)
            assert (row["method"], row["url"]) == ("POST", batch["endpoint"])
            usual = {
                "id": "batch_req_1",
                "custom_id": row["custom_id"],
                "response": {"status_code": 200, "request_id": "r", "body": reply_to(row["body"])},
                "error": None,
            }
            reply = self.answer(row["custom_id"], row["body"]) or usual
            (output if reply is usual else errors).append(json.dumps(reply).encode())
        output, errors = self.lines(output[::-1], errors)  # the order is not kept
        counts = {"total": len(output) + len(errors), "completed": len(output), "failed": len(errors)}
        batch["request_counts"] = counts
        for field, lines in (("output_file_id", output), ("error_file_id", errors)):
            if lines:
                batch[field] = f"file-{len(self.files)}"
                self.files[batch[field]] = b"".join(line + b"\n" for line in lines)
