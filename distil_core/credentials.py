"""Keep credentials out of settings, which are recorded everywhere, and off unprotected networks.

Frozen settings, MLflow, Prefect, reports and error messages all show the settings. They name a key
by the environment variable that has it, and never contain it.
"""

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

MASK = "***"

_SECRET_NAME = re.compile(
    r"""(^|[-_.\s])(
        (api|access|secret|private|subscription|auth|account|signing)[-_]?keys?(?:[-_]id)?
        | key | (bearer|access|auth|id|refresh|session|api|security|hf|github)[-_]?token | token
        | secrets? | client[-_]?secret | pass(word|wd|phrase)? | pwd | credentials? | auth
        | (proxy[-_])?authorization | (set[-_])?cookies? | sig(nature)?
    )$""",
    re.IGNORECASE | re.VERBOSE,
)
# Names of that form whose values are no secrets: of OpenAI-compatible bodies and of tokenizers.
_HARMLESS_NAME = re.compile(
    r"(^|_)((prompt_)?cache_key|(bos|eos|pad|unk|sep|cls|mask|stop|end|start|image)_token)$",
    re.IGNORECASE,
)
# What may be anything's name, such as a field's in a problem file.
_COMMON_NAME = re.compile(r"^(key|token|pass|sig|signature|auth|secrets?)$", re.IGNORECASE)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_SECRET_VALUE = re.compile(
    r"""
      \b(sk|pk|rk)-[A-Za-z0-9_-]{16,} | \bsk_(live|test)_[A-Za-z0-9]{16,}
    | \bgh[oprsu]_[A-Za-z0-9]{20,} | \bgithub_pat_[A-Za-z0-9_]{20,} | \bglpat-[A-Za-z0-9_-]{16,}
    | \bhf_[A-Za-z0-9]{20,} | \b(AKIA|ASIA)[0-9A-Z]{16}\b | \bAIza[0-9A-Za-z_-]{30,}
    | \bxox[abeoprs]-[A-Za-z0-9-]{10,} | \bgsk_[A-Za-z0-9]{20,} | \bnvapi-[A-Za-z0-9_-]{20,}
    | \beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*
    | \b(Bearer|Basic)\s+[A-Za-z0-9._~+/-]{12,}=* | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----
    """,
    re.VERBOSE,
)
_SECRET_FILE = re.compile(
    r"""^\.(env|netrc|pgpass|npmrc|pypirc|htpasswd)\b | ^id_(rsa|dsa|ecdsa|ed25519)
    | \.(key|pem|p12|pfx|jks|keystore|kdbx|asc|gpg)$
    | (credential|secret|passw|api[-_]?key|service[-_]?account|kubeconfig)
    | (^|[-_.])tokens?\.(txt|json|ya?ml|toml)$""",
    re.IGNORECASE | re.VERBOSE,
)
# `name = value` and `name: value`, as in INI, TOML, YAML and JSON; a reference to a variable of
# the environment is no value.
_ASSIGNMENT = re.compile(
    r"""^[\s{,"'-]*([A-Za-z_][\w.-]*)["']?\s*[:=]\s*(?=["']?[^\s"'{}\[\]$#,])(?!["']?(?:null|~)\b)""",
    re.MULTILINE,
)
_READ_BYTES = 2**20
_URL = re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s\"'<>]+", re.IGNORECASE)


def is_secret_name(name: str) -> bool:
    """Whether a setting, header or parameter of this name is a credential."""
    words = _CAMEL.sub("_", name)
    return bool(_SECRET_NAME.search(words)) and not _HARMLESS_NAME.search(words)


def holds_secret(text: str) -> bool:
    """Whether the text looks like a credential, or contains an address that carries one."""
    return bool(_SECRET_VALUE.search(text)) or any(map(_carries_secret, _URL.findall(text)))


def masked(text: str) -> str:
    """The text with its credentials replaced, also those in addresses."""
    text = _SECRET_VALUE.sub(MASK, text)
    return _URL.sub(lambda found: _masked_address(found[0]), text)


def shown(name: str, value: Any) -> str:
    """The value of a setting for a message; hidden where it may be a credential."""
    if is_secret_name(name):
        return repr(MASK)
    if isinstance(value, dict | list | tuple):
        return repr(MASK) if any(secrets_in(value)) else repr(value)
    return masked(repr(value))


def secrets_in(values: Any, where: str = "", strict: bool = False) -> Iterator[str]:
    """The places in settings, at any depth, where a credential is written, never its value. strict:
    names such as `key` and `token` count too, which in settings may mean something else."""
    if isinstance(values, dict):
        for name, value in values.items():
            inner = f"{where}.{name}" if where else str(name)
            suspect = is_secret_name(str(name)) and (strict or not _COMMON_NAME.match(str(name)))
            if suspect and not isinstance(value, dict | list | tuple | bool) and value:
                yield inner
            else:
                yield from secrets_in(value, inner, strict)
    elif isinstance(values, list | tuple):
        for number, value in enumerate(values):
            yield from secrets_in(value, f"{where}[{number}]", strict)
    elif isinstance(values, str) and holds_secret(values):
        yield where


def is_credential_file(path: Path) -> bool:
    """Whether a file has credentials, by its name or content. A program is judged by its content
    only, as it may well be named after tokens."""
    if path.suffix != ".py" and _SECRET_FILE.search(path.name):
        return True
    try:
        text = path.read_bytes()[:_READ_BYTES].decode("utf-8", errors="replace")
    except OSError:
        return False
    if holds_secret(text):
        return True
    return path.suffix != ".py" and any(
        is_secret_name(name) and not _COMMON_NAME.match(name) for name in _ASSIGNMENT.findall(text)
    )


def plain_address(url: str) -> str:
    """An http(s) address without its last slash. Raises `ValueError` where it is not one, or has a
    user, a password, a query or a fragment, which would be recorded with the settings."""
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port is None or parts.port > 0
    except ValueError:
        raise ValueError("expected http(s)://host/v1, found no address at all") from None
    if "@" in parts.netloc or parts.query or parts.fragment or "?" in url:
        raise ValueError(
            "must hold no user, password, query or fragment: settings are recorded. Found one in "
            f"{masked(url)!r}"
        )
    if parts.scheme not in ("http", "https") or not parts.hostname or not port_is_valid:
        raise ValueError(f"expected http(s)://host/v1, found {masked(url)!r}")
    return url.rstrip("/")


def is_loopback(url: str) -> bool:
    """Whether the address is this very machine, independent of name resolution."""
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def may_carry_key(url: str) -> bool:
    """Whether a key sent there cannot be read by anybody on the way."""
    return urlsplit(url).scheme == "https" or is_loopback(url)


def _carries_secret(url: str) -> bool:
    try:
        parts = urlsplit(url)
    except ValueError:
        return False
    if parts.password:
        return True
    names = [pair.partition("=") for pair in re.split("[&;]", f"{parts.query}&{parts.fragment}")]
    return any(value and is_secret_name(name) for name, _, value in names)


def _masked_address(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return MASK
    if "@" in parts.netloc:
        parts = parts._replace(netloc=f"{MASK}@{parts.netloc.rpartition('@')[2]}")
    if parts.query or parts.fragment:
        parts = parts._replace(query=MASK, fragment="")
    return parts.geturl()
