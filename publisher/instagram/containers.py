"""One container: media on its way to an Instagram account (sheet 1.2 to 1.5)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from publisher.envelope import required_id
from publisher.errors import GraphError, NoAnswer
from publisher.instagram.account import InstagramAccount
from publisher.placement import Endpoint, File, HandleState, HandleStatus, MediaType, Medium, Prepared, digest
from publisher.uploads import is_complete, phase_of, phase_status, received_bytes

_STATES = {
    "IN_PROGRESS": HandleState.PROCESSING,
    "FINISHED": HandleState.READY,
    "PUBLISHED": HandleState.PUBLISHED,
    "ERROR": HandleState.FAILED,
    "EXPIRED": HandleState.EXPIRED,
}


@dataclass(frozen=True, slots=True)
class Container:
    """One container: of a post, of a child, or the one that holds children.

    Attributes:
        account: Whose it is.
        name: The step's name.
        parameters: What is asked for; the URL of the medium is added, or that its bytes follow.
        medium: What it shows; None for the one that holds children.
    """

    account: InstagramAccount
    name: str
    parameters: Mapping[str, str]
    medium: Medium | None

    @property
    def media_type(self) -> MediaType:
        """What it shows; a container of children is ready as soon as an image is."""
        return MediaType.IMAGE if self.medium is None else self.medium.media_type

    @property
    def rests_on_others(self) -> bool:
        """A carousel is made of finished children."""
        return self.medium is None

    @property
    def upload(self) -> Medium | None:
        """A video whose bytes we send."""
        return self.medium if self.medium is not None and self.medium.upload else None

    @property
    def attached(self) -> Medium | None:
        """Bytes are sent afterwards: Instagram takes none with the call, and none of an image (sheet 1.4)."""
        return None

    def fingerprint(self, before: Sequence[Prepared]) -> str:
        """A digest of account, parameters, medium and children."""
        children = [prepared.handle for prepared in before] if self.rests_on_others else []
        source = self._source() if self.upload is None else {**self._source(), "file": self.upload.url}
        return digest("instagram", self.account.id, self.parameters, source, children)

    async def create(self, before: Sequence[Prepared], file: File | None) -> Prepared:  # noqa: ARG002
        """Create the container (sheet 1.2)."""
        parameters = {**self.parameters, **self._source()}
        if self.rests_on_others:
            parameters["children"] = ",".join(prepared.handle for prepared in before)
        account = self.account
        path = f"{account.id}/media"
        answer = await account.graph.post(Endpoint.CREATE_CONTAINER, path, account.token, parameters)
        handle = required_id(Endpoint.CREATE_CONTAINER, answer, "id")
        if self.upload is None:
            return Prepared(handle)
        upload_url = answer.get("uri")
        if not isinstance(upload_url, str):
            raise NoAnswer(f"expected uri in the answer to {Endpoint.CREATE_CONTAINER}, found none")
        return Prepared(handle, {"upload_url": upload_url})

    async def send(self, prepared: Prepared, body: AsyncIterator[bytes], offset: int, size_bytes: int) -> None:
        """Send the video's bytes (sheet 1.4)."""
        account, url = self.account, prepared.more["upload_url"]
        await account.graph.send(url, account.token, body, offset=offset, size_bytes=size_bytes)

    async def status(self, prepared: Prepared) -> HandleStatus:
        """Read the container."""
        return await container_status(self.account, prepared.handle, is_uploaded_by_us=self.upload is not None)

    def _source(self) -> dict[str, str]:
        if self.medium is None:
            return {}
        if self.medium.upload:
            return {"upload_type": "resumable"}
        return {f"{self.medium.media_type}_url": self.medium.url}


async def container_status(account: InstagramAccount, handle: str, *, is_uploaded_by_us: bool = False) -> HandleStatus:
    """Read a container (sheet 1.5); one that can't be read just now (100/33) counts as gone."""
    fields = "status_code,status,video_status" if is_uploaded_by_us else "status_code,status"
    try:
        answer = await account.graph.get(Endpoint.CONTAINER, handle, account.token, {"fields": fields})
    except GraphError as error:
        if error.is_missing:
            return HandleStatus(HandleState.GONE, str(error))
        raise
    state = _STATES.get(str(answer.get("status_code")), HandleState.GONE)
    text = str(answer.get("status", ""))
    phase = phase_of(answer.get("video_status"), "uploading_phase")
    # A container has stayed IN_PROGRESS while its upload had failed (sheet 1.4).
    if state is HandleState.PROCESSING and phase_status(phase) == "error":
        state = HandleState.FAILED
    return HandleStatus(state, text, received_bytes(phase), is_complete(phase))
