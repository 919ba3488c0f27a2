"""Outgoing calls to other servers, and the addresses they may go to."""

from puffer.net.addresses import is_loopback, may_connect, validate_base_url, validate_public_url
from puffer.net.client_ip import anonymized, client_ip, network_of, read_ip, seen_ip
from puffer.net.guarded_fetch import GuardedAdapter, Page, fetch
from puffer.net.rest_session import USER_AGENT, Answer, NoAnswer, RestSession, Session, no_answer_errors
from puffer.net.retry_after import parse_retry_after, retry_after_headers

__all__ = [
    "USER_AGENT",
    "Answer",
    "GuardedAdapter",
    "NoAnswer",
    "Page",
    "RestSession",
    "Session",
    "anonymized",
    "client_ip",
    "fetch",
    "is_loopback",
    "may_connect",
    "network_of",
    "no_answer_errors",
    "parse_retry_after",
    "read_ip",
    "retry_after_headers",
    "seen_ip",
    "validate_base_url",
    "validate_public_url",
]
