"""Ids in the shapes that Meta's have, unique and repeatable from a seed.

Ids are strings everywhere: Meta's exceed 2^53. Nothing in their form tells a container from a media
object, as on Meta's side.
"""

from __future__ import annotations

import base64
import random

from publisher.sandbox.objects import TokenKind

_NUMBERS = 10**14
# Prime to 10, so that it permutes the numbers below 10^14: no id comes twice, and none looks counted.
_STRIDE = 61_803_398_874_989


class Ids:
    """Deals out ids, tokens and trace ids."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dealt_count = 0
        self._random = random.Random(seed)  # repeatable on purpose
        self._offset = self._random.randrange(_NUMBERS)

    def resume(self, seed: int, dealt_count: int) -> None:
        """Go on where another run stopped: no id and no token of its comes again."""
        self._offset = random.Random(seed).randrange(_NUMBERS)
        self._random = random.Random(f"{seed} {dealt_count}")
        self.seed, self.dealt_count = seed, dealt_count

    def instagram_account(self) -> str:
        """Return the id of a professional account: 17 digits, 17841 first."""
        return f"17841{self._number() % 10**12:012d}"

    def instagram_object(self) -> str:
        """Return the id of a container or a media object: 17 digits, one number space for both."""
        return f"{self._random.choice((178, 179, 180, 182))}{self._number():014d}"

    def page(self) -> str:
        """Return the id of a Page: 18 digits, as new Pages have."""
        return f"1220{self._number():014d}"

    def photo(self) -> str:
        """Return the id of a Page photo: 18 digits."""
        return f"1221{self._number():014d}"

    def video(self) -> str:
        """Return the id of a Page video: 16 digits."""
        return f"77{self._number():014d}"

    def story_post(self) -> str:
        """Return the id of a Page story post: 16 digits and, unlike a feed post, no underscore."""
        return f"14{self._number():014d}"

    def feed_post(self, page_id: str) -> str:
        """Return the id of a Page's feed post: the Page's, an underscore, and a number."""
        return f"{page_id}_1222{self._number():014d}"

    def permalink_number(self) -> str:
        """Return the number in a story's permalink: 19 digits, and not an id of the Graph API."""
        return f"39540{self._number():014d}"

    def fault(self) -> str:
        """Return the id of a scripted fault."""
        return f"fault-{self._random.getrandbits(32):08x}"

    def user(self) -> str:
        """Return the id of a person: 15 digits, app-scoped."""
        return f"1{self._number():014d}"

    def scoped_account(self) -> str:
        """Return the second id of an account of Instagram Login: 17 digits, app-scoped."""
        return f"247{self._number():014d}"

    def upload_session(self) -> str:
        """Return the id of a chunked upload."""
        return f"35{self._number():014d}"

    def token(self, kind: TokenKind = "page") -> str:
        """Return an access token: Instagram's begin with IGAA, Facebook's with EAA."""
        return f"{'IGAA' if kind == 'instagram' else 'EAA'}{self._letters(96)}"

    def trace(self) -> str:
        """Return a `fbtrace_id`."""
        return f"A{self._letters(22)}"

    def business(self) -> str:
        """Return the id of the business that an account belongs to."""
        return f"6{self._number():014d}"

    def seconds_between(self, shortest: float, longest: float) -> float:
        """Return a processing time."""
        return self._random.uniform(shortest, longest)

    def _number(self) -> int:
        self.dealt_count += 1
        return (self._offset + self.dealt_count * _STRIDE) % _NUMBERS

    def _letters(self, count: int) -> str:
        return base64.urlsafe_b64encode(self._random.randbytes(count)).decode()[:count]
