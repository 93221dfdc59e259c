"""The service: best of N for any client that speaks OpenAI's API, with the extra ``server``.

``swift-client serve`` starts it. ``access/`` decides who may call, how much, and when. ``chat/`` and ``responses/``
turn the body of a request into a call, and a Selection into a reply or a stream, by pure functions; ``question/`` has
what both need, and turns a call into arguments of ``best_of``. ``passthrough/`` sends requests for other models to a
provider as they are. ``http/`` bounds what a client may do to a connection, and turns errors into OpenAI's error
object. ``config/`` reads the file. ``question_endpoint`` is the way from a request to its reply, and ``app`` the
application around it.
"""

from swift_client.server.config import ServiceConfig, load_config, parse_config, single_model
from swift_client.server.run import run_service

__all__ = ["ServiceConfig", "load_config", "parse_config", "run_service", "single_model"]
