"""Access tokens at rest: encrypted in the database, their keys in the relay's settings only."""

from __future__ import annotations

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from pydantic import SecretStr

from publisher.errors import SettingsUnsuitable, TokenUnreadable
from publisher.settings import PublisherSettings

KEPT_MAX = 4096
"""How many tokens are kept open, by their ciphertext: an account's next post needs the same one."""
INSTAGRAM_LOGIN_PREFIXES = ("IGAA", "IGQ")


def is_instagram_login(token: SecretStr) -> bool:
    """Tell whether a token is one of Instagram Login: for graph.instagram.com, 60 days, refreshable (sheet 3)."""
    return token.get_secret_value().startswith(INSTAGRAM_LOGIN_PREFIXES)


class KeyRing:
    """Encrypts with its first key and decrypts with any: a new key is put in front, the old one kept a while."""

    __slots__ = ("_fernet", "_first", "_open")

    def __init__(self, keys: str) -> None:
        """Take one or more Fernet keys, separated by commas or white space.

        Raises:
            SettingsUnsuitable: There is no key, or one is not a Fernet key.
        """
        separate = keys.replace(",", " ").split()
        if not separate:
            raise SettingsUnsuitable(
                "expected at least one token key, found none; make one and set PUBLISHER_TOKEN_KEYS"
            )
        fernets = []
        for position, key in enumerate(separate, start=1):
            try:
                fernets.append(Fernet(key))
            except ValueError:
                raise SettingsUnsuitable(
                    f"expected token key {position} of {len(separate)} to be 32 bytes in url-safe base64, found another"
                ) from None
        self._fernet = MultiFernet(fernets)
        self._first = fernets[0]
        self._open = lru_cache(KEPT_MAX)(self._decrypt)

    def encrypt(self, token: SecretStr) -> bytes:
        """Return the ciphertext of a token."""
        return self._fernet.encrypt(token.get_secret_value().encode())

    def decrypt(self, ciphertext: bytes) -> SecretStr:
        """Return the token.

        Raises:
            TokenUnreadable: No key of the ring encrypted it.
        """
        try:
            return self._open(ciphertext)
        except InvalidToken:
            raise TokenUnreadable(
                "expected a token that one of the configured keys encrypted, found one that none of them opens; "
                "add the key that it was stored with to PUBLISHER_TOKEN_KEYS, or store the token again"
            ) from None

    def _decrypt(self, ciphertext: bytes) -> SecretStr:
        return SecretStr(self._fernet.decrypt(ciphertext).decode())

    def renew(self, ciphertext: bytes) -> bytes | None:
        """Return the ciphertext with the first key, None where it is with that already.

        Raises:
            TokenUnreadable: No key of the ring encrypted it.
        """
        try:
            self._first.decrypt(ciphertext)
        except InvalidToken:
            return self.encrypt(self.decrypt(ciphertext))
        return None


def open_key_ring(settings: PublisherSettings) -> KeyRing:
    """Read the keys from the settings or from their file.

    Raises:
        SettingsUnsuitable: No keys, both sources, an unreadable file, or a text that is no key.
    """
    if settings.token_keys is not None and settings.token_keys_file is not None:
        raise SettingsUnsuitable("expected PUBLISHER_TOKEN_KEYS or PUBLISHER_TOKEN_KEYS_FILE, found both; keep one")
    if settings.token_keys_file is not None:
        try:
            return KeyRing(settings.token_keys_file.read_text(encoding="ascii"))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not ASCII text"
            raise SettingsUnsuitable(f"expected token keys in {settings.token_keys_file}, found: {reason}") from None
    if settings.token_keys is None:
        raise SettingsUnsuitable(
            "expected token keys, found none; set PUBLISHER_TOKEN_KEYS or PUBLISHER_TOKEN_KEYS_FILE to Fernet keys"
        )
    return KeyRing(settings.token_keys.get_secret_value())


def generate_key() -> str:
    """Return a new key for the ring, url-safe base64."""
    return Fernet.generate_key().decode("ascii")
