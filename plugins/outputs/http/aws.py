"""Requests signed for AWS: Signature Version 4, by botocore.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv.html
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from forwarder.api import ConfigError

_SESSION = "forwarder"


class Signer:
    """Signs requests with the credentials that AWS's usual chain finds (environment, files, instance).

    Args:
        role_arn: a role to assume with them.

    Raises:
        ConfigError: boto3 is missing, or there are no credentials.
    """

    def __init__(self, service: str, region: str, role_arn: str | None) -> None:
        try:
            import botocore.auth  # noqa: PLC0415 - megabytes that only this needs
            import botocore.awsrequest  # noqa: PLC0415
            import botocore.credentials  # noqa: PLC0415
            import botocore.session  # noqa: PLC0415
        except ImportError as error:
            raise ConfigError(
                f"aws_sigv4 needs boto3 (pip install 'forwarder[s3]'): {error}", param="auth"
            ) from None
        self._auth = botocore.auth.SigV4Auth
        self._request = botocore.awsrequest.AWSRequest
        self._service, self._region = service, region
        session = botocore.session.get_session()
        self._credentials: Any = session.get_credentials()
        if self._credentials is None:
            raise ConfigError("aws_sigv4: no AWS credentials found", param="auth")
        if role_arn is not None:
            fetcher = botocore.credentials.AssumeRoleCredentialFetcher(
                lambda name, **options: session.create_client(name, region_name=region, **options),
                self._credentials,
                role_arn,
                extra_args={"RoleSessionName": _SESSION},
            )
            self._credentials = botocore.credentials.DeferredRefreshableCredentials(
                fetcher.fetch_credentials, "assume-role"
            )

    def headers(self, method: str, url: str, body: bytes, content_type: str) -> Mapping[str, str]:
        """The headers that make a request a signed one."""
        digest = hashlib.sha256(body).hexdigest()
        given = {"Content-Type": content_type, "X-Amz-Content-SHA256": digest}
        request = self._request(method, url, headers=given, data=body)
        self._auth(self._credentials, self._service, self._region).add_auth(request)
        return dict(request.headers.items())
