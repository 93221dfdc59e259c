"""Redis as the common place of several hosts. Nothing else imports redis, and only with a first connection."""

from swift_client.store.redis.account_store import RedisAccountStore
from swift_client.store.redis.reply_store import RedisReplyStore

__all__ = ["RedisAccountStore", "RedisReplyStore"]
