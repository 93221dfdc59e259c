"""The service: best of N for any client that speaks OpenAI's API, with the extra ``server``.

``swift-client serve`` starts it. A request is read, checked and turned into arguments of ``best_of`` by pure functions
(``chat_request``); a Selection becomes a reply (``chat_reply``, ``chat_stream``), and an error a status with OpenAI's
error object (``error_reply``). ``app`` connects them to HTTP.
"""

from swift_client.server.config import ServiceConfig, load_config, parse_config, single_model
from swift_client.server.run import run_service

__all__ = ["ServiceConfig", "load_config", "parse_config", "run_service", "single_model"]
