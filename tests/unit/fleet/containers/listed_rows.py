"""Lines as `docker ps` prints them, for tests."""

import json


def listed(
    service: str,
    number: int = 1,
    state: str = "running",
    status: str = "Up 2 minutes",
) -> str:
    """One container of the fleet `starling`, as a line."""
    labels = {
        "com.docker.compose.depends_on": "setup:service_completed_successfully:false",
        "com.docker.compose.project": "starling",
        "com.docker.compose.service": service,
        "com.docker.compose.container-number": str(number),
    }
    return json.dumps(
        {
            "Names": f"starling-{service}-{number}",
            "Labels": ",".join(f"{name}={value}" for name, value in labels.items()),
            "State": state,
            "Status": status,
            "ID": "bb05e92aa9fc",
        }
    )
