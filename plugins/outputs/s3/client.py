"""A client of an S3-compatible store (boto3), with every knob that a store other than AWS needs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, Any

import boto3
import urllib3
from botocore import credentials
from botocore.config import Config
from botocore.exceptions import NoCredentialsError
from botocore.session import get_session

from forwarder.api import ForwarderError

if TYPE_CHECKING:
    from forwarder.plugins.outputs.s3.parameters import Account, AssumeRole, InstanceProfile, WebIdentity


def connect(output: Account, connections: int) -> Any:
    """A client for the output's store with so many connections at most.

    Raises:
        BotoCoreError, ClientError: the credentials cannot be had. ForwarderError: no such authorities.
    """
    core = get_session()
    if output.aws_profile is not None and output.aws_key_id is None:
        core.set_config_variable("profile", output.aws_profile)
    found = _credentials(output, core) or core.get_credentials()
    if found is None:
        raise NoCredentialsError  # now, and not with every request of a client that never has any
    core._credentials = found
    session = boto3.Session(botocore_session=core, region_name=output.s3_region)
    signature = {"v4": "s3v4"}.get(output.signature_version or "", output.signature_version)
    checksums = output.compute_checksums
    if checksums is None:
        checksums = output.s3_endpoint is None
    when = "when_supported" if checksums else "when_required"
    config = Config(
        signature_version=signature,
        connect_timeout=output.request_timeout,
        read_timeout=output.request_timeout,
        max_pool_connections=connections,
        proxies=None if output.proxy_uri is None else dict.fromkeys(("http", "https"), output.proxy_uri),
        retries={"mode": "standard", "total_max_attempts": 3},
        request_checksum_calculation=when,
        response_checksum_validation=when,
        use_dualstack_endpoint=output.enable_dual_stack or None,
        s3={
            # the SDK's "auto" would be the path wherever there is an endpoint; Fluentd's is not
            "addressing_style": "path" if output.force_path_style else "virtual",
            "use_accelerate_endpoint": output.enable_transfer_acceleration,
        },
    )
    bundle = _bundle(output) if output.ssl_verify_peer and output.ssl_ca_directory is not None else None
    verify: bool | str | None = output.ssl_ca_bundle if output.ssl_verify_peer else False
    if bundle is not None:
        verify = bundle.name
    if not output.ssl_verify_peer:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)  # our log has said it
    client = session.client("s3", endpoint_url=output.s3_endpoint, verify=verify, config=config)
    client.authorities = bundle  # the file is there for as long as the client, which opens it to connect
    return client


def _bundle(output: Account) -> Any:
    """A temporary file with all authorities of `ssl_ca_directory` and `ssl_ca_bundle`: the SDK takes one."""
    try:
        paths = [path for path in sorted(Path(output.ssl_ca_directory or ".").iterdir()) if path.is_file()]
        if output.ssl_ca_bundle is not None:
            paths.append(Path(output.ssl_ca_bundle))
        found = [data for data in (path.read_bytes() for path in paths) if b"-----BEGIN CERTIFICATE" in data]
    except OSError as error:
        raise ForwarderError(f"{error.filename}: {error.strerror}") from error
    bundle = NamedTemporaryFile(prefix="forwarder-", suffix=".pem")  # noqa: SIM115 - the caller keeps it
    bundle.write(b"\n".join(found))
    bundle.flush()
    return bundle


def _credentials(output: Account, core: Any) -> Any:
    """What the output's parameters say; None: the SDK's own chain (environment, files, instance)."""
    static = None
    if output.aws_key_id is not None and output.aws_sec_key is not None:
        static = credentials.Credentials(output.aws_key_id, output.aws_sec_key)
    if output.assume_role_credentials is not None:
        return _assumed(output, output.assume_role_credentials, core, static)
    if static is not None:
        return static
    if output.aws_profile is not None:
        return None
    if output.aws_credential_process is not None:
        profiles = {"profiles": {"ours": {"credential_process": output.aws_credential_process}}}
        return credentials.ProcessProvider("ours", lambda: profiles).load()
    if output.web_identity_credentials is not None:
        return _web_identity(output, output.web_identity_credentials, core)
    if output.instance_profile_credentials is not None or output.aws_iam_retries is not None:
        return _instance(output.instance_profile_credentials, output.aws_iam_retries, core)
    if output.shared_credentials is not None:
        section = output.shared_credentials
        path = section.path or os.path.expanduser("~/.aws/credentials")
        profile = section.profile_name or os.environ.get("AWS_PROFILE", "default")
        return credentials.SharedCredentialProvider(path, profile).load()
    return None


def _creator(output: Account, section: AssumeRole | WebIdentity, core: Any) -> Any:
    """Makes clients of the token service for botocore's fetchers."""

    def create(service: str, **more: Any) -> Any:
        proxy = section.sts_http_proxy
        config = Config(proxies=dict.fromkeys(("http", "https"), proxy)) if proxy else None
        if more.get("config") is not None and config is not None:
            config = more.pop("config").merge(config)
        elif config is None:
            config = more.pop("config", None)
        region = section.sts_region or output.s3_region
        return core.create_client(
            service, region_name=region, endpoint_url=section.sts_endpoint_url, config=config, **more
        )

    return create


def _extra(section: AssumeRole | WebIdentity) -> dict[str, Any]:
    values: Mapping[str, Any] = {
        "RoleSessionName": section.role_session_name,
        "Policy": section.policy,
        "DurationSeconds": section.duration_seconds,
        "ExternalId": getattr(section, "external_id", None),
    }
    return {name: value for name, value in values.items() if value is not None}


def _assumed(output: Account, section: AssumeRole, core: Any, static: Any) -> Any:
    fetcher = credentials.AssumeRoleCredentialFetcher(
        client_creator=_creator(output, section, core),
        source_credentials=static or core.get_credentials(),
        role_arn=section.role_arn,
        extra_args=_extra(section),
    )
    return _refreshed(fetcher, section, "assume-role")


def _web_identity(output: Account, section: WebIdentity, core: Any) -> Any:
    fetcher = credentials.AssumeRoleWithWebIdentityCredentialFetcher(
        client_creator=_creator(output, section, core),
        web_identity_token_loader=lambda: _text(section.web_identity_token_file),
        role_arn=section.role_arn,
        extra_args=_extra(section),
    )
    return _refreshed(fetcher, section, "assume-role-with-web-identity")


def _refreshed(fetcher: Any, section: AssumeRole | WebIdentity, method: str) -> Any:
    made = credentials.DeferredRefreshableCredentials(fetcher.fetch_credentials, method)
    if section.duration_seconds is not None:
        # The SDK's 15 and 10 minutes: a session that lasts no longer would be asked for with every request.
        made._advisory_refresh_timeout = min(900, section.duration_seconds // 4)
        made._mandatory_refresh_timeout = min(600, section.duration_seconds // 8)
    return made


def _text(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read().strip()


def _instance(section: InstanceProfile | None, retries: int | None, core: Any) -> Any:
    if any(f"AWS_CONTAINER_CREDENTIALS_{kind}_URI" in os.environ for kind in ("RELATIVE", "FULL")):
        return credentials.ContainerProvider().load()
    names = ("ec2_metadata_service_endpoint", "ec2_metadata_service_endpoint_mode")
    options: dict[str, Any] = {"config": {name: core.get_config_variable(name) for name in names}}
    if section is not None:
        retries = section.retries if section.retries is not None else retries
        timeouts = [each for each in (section.http_open_timeout, section.http_read_timeout) if each]
        if timeouts:
            options["timeout"] = max(timeouts)
        if section.ip_address is not None or section.port is not None:
            options["base_url"] = f"http://{section.ip_address or '169.254.169.254'}:{section.port or 80}/"
    if retries is not None:
        options["num_attempts"] = retries + 1
    fetcher = credentials.InstanceMetadataFetcher(**options)
    return credentials.InstanceMetadataProvider(fetcher).load()
