"""Forms that a browser posts: bounded in bytes, fields and time.

Source: url.spec.whatwg.org, section 5; RFC 9110, section 15.5.
"""

import asyncio
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

FIELDS_MAX = 16
BODY_S = 10.0
"""A form that takes longer to arrive is refused."""
_KIND = "application/x-www-form-urlencoded"


class RefusedRequest(Exception):
    """A request that is answered before it is understood.

    Attributes:
      answer: To it; the connection ends after it, with what is left of the request.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.answer: Response = PlainTextResponse(
            text + "\n", status, headers={"connection": "close"}
        )


async def read_form(request: Request, bytes_max: int) -> dict[str, str]:
    """Fields of a form, each once.

    Args:
      request: Whose body was not read yet.
      bytes_max: Of the body.

    Raises:
      RefusedRequest: If it is too large, too slow, or no form of the console.
    """
    _check_head(request.headers, bytes_max)
    try:
        async with asyncio.timeout(BODY_S):
            body = await request.body()
        found = parse_qs(
            body.decode(),
            keep_blank_values=True,
            max_num_fields=FIELDS_MAX,
            errors="strict",
        )
    except TimeoutError as error:
        raise RefusedRequest(408, "The form did not arrive in time.") from error
    except (ClientDisconnect, ValueError) as error:
        raise RefusedRequest(400, "That is no form of the console.") from error
    if any(len(values) != 1 for values in found.values()):
        raise RefusedRequest(400, "A field stands twice in the form.")
    return {name: values[0] for name, values in found.items()}


def _check_head(headers: Headers, bytes_max: int) -> None:
    length = headers.get("content-length", "")
    if not (length.isascii() and length.isdigit()):
        raise RefusedRequest(411, "The form says its length.")
    # By its digits first: `int` of a long text takes its time.
    if len(length) > len(str(bytes_max)) or int(length) > bytes_max:
        raise RefusedRequest(413, f"The form has more than {bytes_max} bytes.")
    if headers.get("content-type", _KIND).partition(";")[0].strip().lower() != _KIND:
        raise RefusedRequest(415, f"A form is {_KIND}.")
    # Browsers say by themselves whose page sends a form.
    if headers.get("sec-fetch-site", "same-origin") != "same-origin":
        raise RefusedRequest(403, "Send the form from the console's own page.")
